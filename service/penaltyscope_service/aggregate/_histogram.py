"""Histograms of several columns at once."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

DURATION_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds, inclusive upper bounds of the buckets."""
NORM_BOUNDS: Final = tuple(float(f"1e{exponent}") for exponent in range(-6, 7))
"""Decades."""


@dataclass(slots=True)
class Histogram:
    """How often numbers fell below each bound, by column.

    Numbers that are not finite are not observed: one of them would make the sum useless for ever,
    and they have counters of their own.
    """

    bounds: NDArray[np.float64]
    counts: NDArray[np.int64]
    """``[C, B + 1]``, of each bucket alone; the last one is for what is above all bounds."""
    sums: NDArray[np.float64]
    """``[C]``, added in order of arrival, so that it does not depend on how steps were batched."""

    @classmethod
    def empty(cls, bounds: tuple[float, ...], columns: int) -> Self:
        """A histogram that has observed nothing."""
        counts = np.zeros((columns, len(bounds) + 1), np.int64)
        return cls(np.array(bounds), counts, np.zeros(columns))

    def widen(self, columns: int) -> None:
        """Adds columns."""
        more = Histogram.empty(tuple(self.bounds), columns)
        self.counts = np.concatenate((self.counts, more.counts))
        self.sums = np.concatenate((self.sums, more.sums))

    def observe(self, columns: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        """Adds numbers, finite or NaN where there is none.

        Args:
            columns: ``[T]``, which columns they are for.
            numbers: ``[T, N]``.
        """
        _observe(columns, numbers, self.bounds, self.counts, self.sums)


_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 2, "C", readonly=True)
_LINE: Final = types.Array(types.float64, 1, "C", readonly=True)
_BOUNDS: Final = types.Array(types.float64, 1, "C", readonly=True)
_COUNTS: Final = types.Array(types.int64, 2, "C")
_SUMS: Final = types.Array(types.float64, 1, "C")


@part(types.int64(_LINE, types.float64))
def _count_above(numbers: NDArray[np.floating[Any]], bound: float) -> int:
    above = np.int64(0)
    for row in range(len(numbers)):
        above += np.int64(numbers[row] > bound)
    return int(above)


@part(types.Tuple((types.int64, types.float64, types.float64))(_LINE))
def _survey(numbers: NDArray[np.floating[Any]]) -> tuple[int, float, float]:
    """How many there are, the least and the greatest."""
    whole = len(numbers) // 4 * 4
    # Four side by side: to compare one after the other takes twice the time or more.
    low_0 = low_1 = low_2 = low_3 = np.inf
    high_0 = high_1 = high_2 = high_3 = -np.inf
    for start in range(0, whole, 4):
        some = numbers[start : start + 4]
        a, b, c, d = some[0], some[1], some[2], some[3]
        low_0, high_0 = a if a < low_0 else low_0, a if a > high_0 else high_0
        low_1, high_1 = b if b < low_1 else low_1, b if b > high_1 else high_1
        low_2, high_2 = c if c < low_2 else low_2, c if c > high_2 else high_2
        low_3, high_3 = d if d < low_3 else low_3, d if d > high_3 else high_3
    for number in numbers[whole:]:
        low_0 = number if number < low_0 else low_0
        high_0 = number if number > high_0 else high_0
    low = min(min(low_0, low_1), min(low_2, low_3))
    high = max(max(high_0, high_1), max(high_2, high_3))
    return _count_above(numbers, -np.inf), low, high


@part(types.float64(types.float64))
def _there(number: float) -> float:
    """What a number adds to a sum; a sum that began at 0 is never -0, and stays as it is."""
    return 0.0 if np.isnan(number) else number


@part(types.void(_COLUMNS, _NUMBERS, _SUMS))
def _add(
    columns: NDArray[np.integer[Any]],
    numbers: NDArray[np.floating[Any]],
    sums: NDArray[np.floating[Any]],
) -> None:
    """Adds every column's numbers one after the other: only so is the sum always the same."""
    whole = len(columns) // 4 * 4
    for i in range(0, whole, 4):  # four side by side take hardly longer than one
        a, b, c, d = numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]
        sum_a, sum_b = sums[columns[i]], sums[columns[i + 1]]
        sum_c, sum_d = sums[columns[i + 2]], sums[columns[i + 3]]
        for row in range(len(a)):
            sum_a += _there(a[row])
            sum_b += _there(b[row])
            sum_c += _there(c[row])
            sum_d += _there(d[row])
        sums[columns[i]], sums[columns[i + 1]] = sum_a, sum_b
        sums[columns[i + 2]], sums[columns[i + 3]] = sum_c, sum_d
    for i in range(whole, len(columns)):
        line, total = numbers[i], sums[columns[i]]
        for row in range(len(line)):
            total += _there(line[row])
        sums[columns[i]] = total


@kernel(types.void(_COLUMNS, _NUMBERS, _BOUNDS, _COUNTS, _SUMS))
def _observe(
    columns: NDArray[np.integer[Any]],
    numbers: NDArray[np.floating[Any]],
    bounds: NDArray[np.floating[Any]],
    counts: NDArray[np.integer[Any]],
    sums: NDArray[np.floating[Any]],
) -> None:
    _add(columns, numbers, sums)
    for i in range(len(columns)):
        line, column = numbers[i], columns[i]
        above, lowest, highest = _survey(line)
        # All numbers are compared with one bound after the other, but only with those that lie
        # among them: that is far quicker than to look for the bucket of each.
        for bucket in range(len(bounds)):
            bound, before = bounds[bucket], above
            if bound >= highest:
                above = 0
            elif bound >= lowest:
                above = _count_above(line, bound)
            counts[column, bucket] += before - above
            if not above:
                break
        counts[column, len(bounds)] += above
