"""Which numbers of a block mean something: a missing number must not look like a NaN."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import TermFlag

Mask = NDArray[np.bool_]

# Plain integers: arithmetic of flags costs more than that of the arrays.
DISABLED: Final = int(TermFlag.DISABLED)
"""A term's value and contribution mean nothing."""
NO_NORM: Final = int(TermFlag.DISABLED | TermFlag.NORM_NOT_MEASURED)
"""A term's gradient norm means nothing."""
GRADIENT_FINDING: Final = int(TermFlag.GRADIENT_NAN | TermFlag.GRADIENT_INF)


def evaluated(flags: NDArray[np.int32]) -> Mask:
    """Where a term was evaluated: its value and contribution are real."""
    mask: Mask = (flags & DISABLED) == 0
    return mask


def norm_measured(flags: NDArray[np.int32]) -> Mask:
    """Where a term's gradient norm was measured."""
    mask: Mask = (flags & NO_NORM) == 0
    return mask


def total_norm_measured(norm: NDArray[np.float64], flags: NDArray[np.int32]) -> Mask:
    """``[N]``: where the norm of the total, ``[N]``, was measured, by the terms' flags ``[N, T]``.

    It carries no flag of its own; a NaN is real only where some term's gradient was non-finite.
    """
    measured: Mask = ~np.isnan(norm)
    if not measured.all():
        measured |= ((flags & GRADIENT_FINDING) != 0).any(axis=1)
    return measured
