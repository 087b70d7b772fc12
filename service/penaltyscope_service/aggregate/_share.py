"""How the terms share the gradient."""

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.measured import evaluated, norm_measured

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]


def gradient_shares(block: StepBlock, rows: slice) -> tuple[Numbers, Mask]:
    """``[N, T]``: weighted gradient norm over the sum of all terms', and where it can be told.

    It cannot at an evaluation of which a measured norm is not finite. A term that is disabled or
    has no weight has a share of 0; one whose norm was not measured for another reason has none.
    """
    flags, weight = block.flags[rows], block.weight[rows]
    measured = norm_measured(flags)
    with np.errstate(over="ignore", invalid="ignore"):
        weighted = np.where(measured, np.abs(weight) * block.gradient_norm[rows], 0.0)
        total = weighted.sum(axis=1, keepdims=True)
    known = np.isfinite(total) & (total > 0)
    ratio = np.divide(weighted, total, out=np.full(weighted.shape, np.nan), where=known)
    idle = ~evaluated(flags) | (weight == 0)
    return ratio, known & (measured | idle)
