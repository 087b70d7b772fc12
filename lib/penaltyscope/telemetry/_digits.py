"""Digits that nobody computed are noise: zeros in their place compress much better."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float64, np.int64)

_FRACTION_BITS = 52
"""Of a double."""
OF_AN_INTEGER = _FRACTION_BITS
"""All of one that stands where doubles stand."""
OF_A_NUMBER = 23
"""Of a float32."""
OF_A_NORM = 20
"""Of a norm or a duration: half a millionth, since a float32 sum of squares is no better."""


Patterns = tuple[NDArray[np.int64], NDArray[np.int64]]
"""``[R, C]``: half of the last digit that is kept, and where the kept ones are."""
MOST_ROWS = 256
"""Of those that a row is repeated for."""


def patterns(bits: Sequence[int]) -> Patterns:
    """For each column how many bits of the fraction are kept, as ``round_off`` needs it."""
    dropped = _FRACTION_BITS - np.array(bits, np.int64)
    one = np.int64(1)
    return repeated((one << dropped) >> one), repeated(-(one << dropped))


def repeated(row: NDArray[Number]) -> NDArray[Number]:
    """``[R, C]``, a row as often as it may be asked for."""
    return np.tile(row, (MOST_ROWS, 1))


def _of_size(rows: NDArray[Number], count: int) -> NDArray[Number]:
    """``[N, C]``, or what NumPy repeats as often.

    It repeats by a way of its own, whose code has to be fetched after a second of training.
    """
    return rows[: count if count <= MOST_ROWS else 1]


def round_off(numbers: NDArray[np.float64], patterns: Patterns, *, ordinary: bool) -> None:
    """Takes the digits that mean nothing away.

    Args:
        numbers: ``[N, C]``, changed in place.
        patterns: which digits are kept.
        ordinary: that all are finite, and none so large that rounding could make it infinite.
    """
    half, kept = _of_size(patterns[0], len(numbers)), _of_size(patterns[1], len(numbers))
    before = None if ordinary else numbers.copy()
    pattern = numbers.view(np.int64)
    pattern += half
    pattern &= kept
    if before is not None:
        # NaN and infinity have no digits, and the largest numbers must not become infinite.
        lost = ~(np.isfinite(numbers) & np.isfinite(before))
        np.copyto(numbers, before, where=lost)
