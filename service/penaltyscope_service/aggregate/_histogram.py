"""Histograms of several columns at once."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.aggregate._bucket import Buckets

DURATION_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds, inclusive upper bounds of the buckets."""
NORM_BOUNDS: Final = tuple(float(f"1e{exponent}") for exponent in range(-6, 7))
"""Decades."""

Columns = NDArray[np.int64] | slice


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

    def observe(
        self, columns: Columns, numbers: NDArray[np.float64], finite: NDArray[np.bool_] | None
    ) -> None:
        """Adds numbers.

        Args:
            columns: which columns they are for.
            numbers: ``[N, C]``.
            finite: ``[N, C]``, which of them are observed; nothing for all.
        """
        buckets = len(self.bounds) + 1
        width = numbers.shape[1]
        found = Buckets.of(self.bounds.tobytes()).find(numbers)
        cells = found + np.arange(0, width * buckets, buckets)
        if finite is None:
            flat = cells.ravel()
        else:
            flat, numbers = cells[finite], np.where(finite, numbers, 0.0)
        counts = np.bincount(flat, minlength=width * buckets)
        self.counts[columns] += counts.reshape(width, buckets)
        with np.errstate(over="ignore"):  # an infinite sum is what it is
            sums = np.add.accumulate(np.vstack((self.sums[columns], numbers)))
        self.sums[columns] = sums[-1]
