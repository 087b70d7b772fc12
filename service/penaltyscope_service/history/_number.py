"""Doubles as integers in the same order: close numbers are close integers."""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel

_LEAST: Final = np.int64(-(2**63))
"""The bits of -0.0: to be told from 0.0, it comes before all others."""


def exchange(bits: NDArray[np.int64], out: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The bits of doubles for such integers, or the integers for their bits.

    A negative number's integer is minus that of its absolute value, so that the zeros at the end
    of a fraction, of a float32 for one, are zeros at the end of the integer.

    Args:
        bits: in the order of C.
        out: what to fill, also in that order; perhaps ``bits`` itself.
    """
    exchanged = np.empty_like(bits) if out is None else out
    _exchange(bits.reshape(-1), exchanged.reshape(-1))
    return exchanged


@kernel(
    types.void(types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C"))
)
def _exchange(bits: NDArray[np.int64], exchanged: NDArray[np.int64]) -> None:
    for i in range(len(bits)):
        negative = (bits[i] < 0) & (bits[i] != _LEAST)  # `and` would be a branch
        exchanged[i] = _LEAST - bits[i] if negative else bits[i]
