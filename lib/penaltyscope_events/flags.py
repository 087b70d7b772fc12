"""What can be wrong with a term at one step, as bits, and what each bit means."""

from enum import IntFlag
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Stage = Literal["input", "value", "gradient"]
Kind = Literal["nan", "inf"]


class TermFlag(IntFlag):
    """Bits of ``penaltyscope.term.flags``."""

    VALUE_NAN = 1
    VALUE_INF = 2
    GRADIENT_NAN = 4
    GRADIENT_INF = 8
    NORM_NOT_MEASURED = 16
    """No backward pass reached the term, or its weight was zero; its norm is a meaningless NaN."""
    INPUT_NAN = 32
    INPUT_INF = 64
    DISABLED = 128
    """The term was not evaluated; its value and norm are NaN and mean nothing."""
    GRADIENT_OVERFLOW = 256
    """Beside ``NORM_NOT_MEASURED``: the gradient was not finite under a large loss scale, while the
    value was. Such steps are what a gradient scaler skips, so this is no finding."""


class Finding(NamedTuple):
    """One way in which a term can be non-finite."""

    flag: TermFlag
    stage: Stage
    kind: Kind


ALL_FLAGS: Final = TermFlag(sum(TermFlag))
"""Every bit that there is."""

FINDINGS: Final = (
    Finding(TermFlag.INPUT_NAN, "input", "nan"),
    Finding(TermFlag.INPUT_INF, "input", "inf"),
    Finding(TermFlag.VALUE_NAN, "value", "nan"),
    Finding(TermFlag.VALUE_INF, "value", "inf"),
    Finding(TermFlag.GRADIENT_NAN, "gradient", "nan"),
    Finding(TermFlag.GRADIENT_INF, "gradient", "inf"),
)
"""In causal order: what is wrong with the input shows in the value, and that in the gradient."""

NONFINITE: Final = TermFlag(sum(finding.flag for finding in FINDINGS))
"""Every bit that reports a NaN or an infinity."""


def complete_flags(
    flags: NDArray[np.int32], value: NDArray[np.float64], gradient_norm: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Adds the bits that follow from the numbers themselves.

    Args:
        flags: ``int[N, T]``, what the numbers do not say (input findings, disabled, unmeasured).
        value: ``float[N, T]``, unweighted values.
        gradient_norm: ``float[N, T]``, unweighted gradient norms.
    """
    if np.isfinite(value).all() and np.isfinite(gradient_norm).all():
        return flags.astype(np.int32)
    evaluated = (flags & TermFlag.DISABLED) == 0
    measured = evaluated & ((flags & TermFlag.NORM_NOT_MEASURED) == 0)
    # Only where the number means something: a disabled term's NaN is no finding.
    return (
        flags
        | np.where(evaluated & np.isnan(value), TermFlag.VALUE_NAN, 0)
        | np.where(evaluated & np.isinf(value), TermFlag.VALUE_INF, 0)
        | np.where(measured & np.isnan(gradient_norm), TermFlag.GRADIENT_NAN, 0)
        | np.where(measured & np.isinf(gradient_norm), TermFlag.GRADIENT_INF, 0)
    ).astype(np.int32)
