"""Medians of many columns at once."""

from functools import cache
from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel

Numbers = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

_TILE: Final = 64
"""Columns that are sorted together: as many as fit into the nearest cache."""


def lower_medians(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[C]``: the medians of ``[N, C]``, of an even number the lower middle.

    NaN do not count; where there is nothing else, the median is NaN. A zero has no sign, as of two
    zeros of different signs either might be the middle. Infinities are not expected.
    """
    medians = np.empty(numbers.shape[1])
    _find_medians(np.ascontiguousarray(numbers), _network(len(numbers)), medians)
    return medians


@cache
def _network(count: int) -> NDArray[np.int64]:
    """``[P, 2]``: which places to compare, and exchange, so that all are sorted in the end.

    The same places whatever the numbers are, so that many columns are sorted at once. Reference:
    Batcher, Sorting networks and their applications (1968); Knuth, algorithm 5.2.2 M.
    """
    pairs: list[tuple[int, int]] = []
    largest = 1 << max(count - 1, 1).bit_length() - 1
    size = largest
    while size:
        distance, step, bit = size, largest, 0
        while True:
            pairs += [(i, i + distance) for i in range(count - distance) if i & size == bit]
            if step == size:
                break
            distance, step, bit = step - size, step // 2, size
        size //= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


_NUMBERS: Final = types.Array(types.float64, 2, "C", readonly=True)
_PAIRS: Final = types.Array(types.int64, 2, "C", readonly=True)
_MEDIANS: Final = types.Array(types.float64, 1, "C")


@kernel(types.void(_NUMBERS, _PAIRS, _MEDIANS))
def _find_medians(numbers: Numbers, pairs: Integers, medians: Numbers) -> None:
    height = numbers.shape[0]
    tile = np.empty((height, _TILE))
    counts = np.empty(_TILE, np.int64)
    for start in range(0, len(medians), _TILE):
        width = min(len(medians) - start, _TILE)
        counts[:width] = 0
        for i in range(height):
            row, given = tile[i], numbers[i, start : start + width]
            for j in range(width):
                there = not np.isnan(given[j])
                counts[j] += there
                row[j] = given[j] if there else np.inf
        for pair in range(pairs.shape[0]):
            first, second = tile[pairs[pair, 0]], tile[pairs[pair, 1]]
            for j in range(width):
                low, high = first[j], second[j]
                # Zero is added so that every number is written: to write only those that
                # change places takes thrice the time.
                first[j] = (high if high < low else low) + 0.0
                second[j] = (low if high < low else high) + 0.0
        for j in range(width):
            count = counts[j]
            medians[start + j] = tile[(count - 1) // 2, j] if count else np.nan
