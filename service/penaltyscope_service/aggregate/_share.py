"""How the terms share the gradient."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.measured import evaluated, norm_measured


class Share(NamedTuple):
    """The shares at one evaluation."""

    seq: int
    ratio: NDArray[np.float64]
    """``[T]``: weighted gradient norm over the sum of all terms'; NaN where it is unknown."""


def latest_share(block: StepBlock) -> Share | None:
    """The shares at the latest evaluation at which they can be told.

    They cannot while a norm that was measured is not finite. A term that has no weight or is
    disabled has a share of 0; one whose norm was not measured for another reason has none.

    Args:
        block: evaluations in ascending order of ``seq``.
    """
    return _latest_share(block, slice(-1, None)) or _latest_share(block, slice(None))


def _latest_share(block: StepBlock, rows: slice) -> Share | None:
    flags, weight = block.flags[rows], block.weight[rows]
    measured = norm_measured(flags)
    with np.errstate(over="ignore", invalid="ignore"):
        weighted = np.where(measured, np.abs(weight) * block.gradient_norm[rows], 0.0)
        total = weighted.sum(axis=1)
    known = np.isfinite(total) & (total > 0)
    if not known.any():
        return None
    row = int(np.flatnonzero(known)[-1])
    ratio = weighted[row] / total[row]
    if not measured[row].all():
        unknown = ~measured[row] & ~_without_gradient(flags[row], weight[row])
        ratio = np.where(unknown, np.nan, ratio)
    return Share(int(block.seq[rows][row]), ratio)


def _without_gradient(flags: NDArray[np.int32], weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    idle: NDArray[np.bool_] = ~evaluated(flags) | (weight == 0)
    return idle
