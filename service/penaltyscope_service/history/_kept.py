"""Blocks as they are written; small ones wait like that to be aggregated, in little memory."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import NONFINITE, StepBlock
from penaltyscope_service.history._payload import decode_plain_blocks, encode_block
from penaltyscope_service.history._rows import KeptBlock, NewBlock
from penaltyscope_service.kernel import kernel

_NONFINITE: Final = int(NONFINITE)


def keep(block: NewBlock, *, packed: bool = False) -> KeptBlock:
    """The block as it is written.

    Raises:
        ValueError: if its columns are not as long as each other.
    """
    place, received_at, steps = block
    payload = encode_block(steps, packed=packed)
    return KeptBlock(
        place,
        received_at,
        steps.pipeline,
        steps.incarnation,
        steps.terms,
        steps.step,
        steps.seq,
        steps.stop_ns,
        *_summary(steps.step, steps.has_base, steps.base, steps.flags),
        payload,
    )


def unite(blocks: Sequence[KeptBlock]) -> StepBlock:
    """Small blocks with the same names as one, in order."""
    first = blocks[0]
    return decode_plain_blocks(
        [(block.payload, len(block.step)) for block in blocks],
        pipeline=first.pipeline,
        incarnation=first.incarnation,
        terms=first.terms,
    )


@kernel(
    types.UniTuple(types.int64, 3)(
        types.Array(types.int64, 1, "A", readonly=True),
        types.Array(types.boolean, 1, "A", readonly=True),
        types.Array(types.float64, 1, "A", readonly=True),
        types.Array(types.int32, 2, "A", readonly=True),
    )
)
def _summary(
    step: NDArray[np.int64],
    has_base: NDArray[np.bool_],
    base: NDArray[np.float64],
    flags: NDArray[np.int32],
) -> tuple[int, int, int]:
    """The least and the greatest step, and how many evaluations are not finite."""
    least = greatest = step[0]
    bad = np.zeros(len(step), np.int32)
    for term in range(flags.shape[1]):
        line = flags[:, term]
        for row in range(len(bad)):
            bad[row] |= line[row]
    nonfinite = 0
    for row in range(len(step)):
        least, greatest = min(least, step[row]), max(greatest, step[row])
        nonfinite += bad[row] & _NONFINITE != 0 or (has_base[row] and not np.isfinite(base[row]))
    return least, greatest, nonfinite
