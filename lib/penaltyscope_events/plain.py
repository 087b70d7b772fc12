"""Steps as nearly all are, in what their records need and no more.

For the steps of a second, making arrays of what they have in common costs more than encoding them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events.block import StepBlock


@dataclass(slots=True, kw_only=True)
class PlainSteps:
    """``N`` evaluations of one pipeline with ``T`` terms, all finite and none with a flag.

    What is not explained is as in a block.
    """

    pipeline: str
    incarnation: str
    terms: tuple[str, ...]
    weight: NDArray[np.float64]
    """``[1, T]``, the same at all steps, or ``[N, T]``."""
    has_base: bool
    step: Sequence[int]
    seq: Sequence[int]
    stop_ns: Sequence[int]
    numbers: NDArray[np.float64]
    """``[N, 4 + 3 * T]``: ``duration``, ``base``, ``total``, ``total_gradient_norm``; of the terms
    ``value``, ``contribution`` and ``gradient_norm``."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def start_ns(self) -> list[int]:
        """``[N]``, as of a block."""
        durations = self.numbers[:, 0].tolist()
        return [stop - int(d * 1e9) for stop, d in zip(self.stop_ns, durations, strict=True)]

    def block(self, flags: NDArray[np.int32] | None = None) -> StepBlock:
        """The same as columns; with flags ``[N, T]``, which plain steps have none of."""
        count, terms = len(self), len(self.terms)
        numbers = self.numbers
        return StepBlock(
            pipeline=self.pipeline,
            incarnation=self.incarnation,
            terms=self.terms,
            step=np.array(self.step, np.int64),
            seq=np.array(self.seq, np.int64),
            stop_ns=np.array(self.stop_ns, np.int64),
            duration=numbers[:, 0],
            base=numbers[:, 1],
            has_base=np.full(count, self.has_base),
            total=numbers[:, 2],
            total_gradient_norm=numbers[:, 3],
            value=numbers[:, 4 : 4 + terms],
            weight=np.broadcast_to(self.weight, (count, terms)),
            contribution=numbers[:, 4 + terms : 4 + 2 * terms],
            gradient_norm=numbers[:, 4 + 2 * terms :],
            flags=np.zeros((count, terms), np.int32) if flags is None else flags,
        )
