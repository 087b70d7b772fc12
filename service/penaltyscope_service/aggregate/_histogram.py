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
            numbers: ``[N, T]``.
        """
        _observe(columns, numbers, self.bounds, self.counts, self.sums)


_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 2, "A", readonly=True)
_BOUNDS: Final = types.Array(types.float64, 1, "C", readonly=True)
_COUNTS: Final = types.Array(types.int64, 2, "C")
_SUMS: Final = types.Array(types.float64, 1, "C")


@part(types.int64(_SUMS, types.float64))
def _count_above(numbers: NDArray[np.floating[Any]], bound: float) -> int:
    above = 0
    for number in numbers:
        above += number > bound
    return above


@kernel(types.void(_COLUMNS, _NUMBERS, _BOUNDS, _COUNTS, _SUMS))
def _observe(
    columns: NDArray[np.integer[Any]],
    numbers: NDArray[np.floating[Any]],
    bounds: NDArray[np.floating[Any]],
    counts: NDArray[np.integer[Any]],
    sums: NDArray[np.floating[Any]],
) -> None:
    there = np.empty(numbers.shape[0])
    for i in range(len(columns)):
        column = columns[i]
        count, total, lowest, highest = 0, sums[column], np.inf, -np.inf
        for row in range(numbers.shape[0]):
            number = numbers[row, i]
            if not np.isnan(number):
                there[count] = number
                count += 1
                total += number
                lowest = min(lowest, number)
                highest = max(highest, number)
        sums[column] = total
        # All numbers are compared with one bound after the other, but only with those that lie
        # among them: that is far quicker than to look for the bucket of each.
        seen = there[:count]
        above = count
        for bucket in range(len(bounds)):
            bound, before = bounds[bucket], above
            if bound >= highest:
                above = 0
            elif bound >= lowest:
                above = _count_above(seen, bound)
            counts[column, bucket] += before - above
            if not above:
                break
        counts[column, len(bounds)] += above
