"""Digits that nobody computed are noise: zeros in their place compress much better."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EXACT = 52
"""Bits of a double's fraction: nothing is rounded."""
OF_A_NUMBER = 23
"""Of a float32."""
OF_A_NORM = 20
"""Of a norm or a duration: half a millionth, since a float32 sum of squares is no better."""


def rounded(numbers: NDArray[np.float64], bits: Sequence[int]) -> NDArray[np.float64]:
    """The numbers without the digits that mean nothing.

    Args:
        numbers: ``[N, C]``, of any size that float64 holds.
        bits: for each column how many of the fraction are kept.
    """
    half, kept = _patterns(tuple(bits))
    pattern = numbers.view(np.int64) + half
    pattern &= kept
    result = pattern.view(np.float64)
    finite = np.isfinite(result)
    # NaN and infinity have no digits, and the largest numbers must not become infinite.
    return result if finite.all() else np.where(finite & np.isfinite(numbers), result, numbers)


@lru_cache(maxsize=64)
def _patterns(bits: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``[C]``: half of the last digit that is kept, and where the kept ones are."""
    dropped = EXACT - np.array(bits, np.int64)
    one = np.int64(1)
    return (one << dropped) >> one, -(one << dropped)
