"""Doubles as integers in the same order: close numbers are close integers."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LEAST: Final = np.int64(-(2**63))
"""The bits of -0.0: to be told from 0.0, it comes before all others."""


def exchange(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bits of doubles for such integers, or the integers for their bits.

    A negative number's integer is minus that of its absolute value, so that the zeros at the end
    of a fraction, of a float32 for one, are zeros at the end of the integer.
    """
    negative = (bits < 0) & (bits != _LEAST)
    return np.where(negative, _LEAST - bits, bits) if negative.any() else bits
