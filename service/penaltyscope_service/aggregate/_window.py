"""The largest numbers of the last moments, for everyone who looks in from time to time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel

Columns = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Window:
    """Maxima of this period and the last.

    Reading changes nothing, so any number of scrapers see the same. A maximum stays for one to two
    periods: at least one scrape falls in if the scrape interval is no longer than a period.
    """

    period: int
    """The number of the period: time divided by its length."""
    current: Numbers
    """``[C, W]``; minus infinity where nothing was seen."""
    previous: Numbers

    @classmethod
    def empty(cls, columns: int, width: int) -> Self:
        """A window in which nothing was seen."""
        return cls(0, np.full((columns, width), -np.inf), np.full((columns, width), -np.inf))

    def widen(self, columns: int) -> None:
        """Adds columns."""
        more = np.full((columns, self.current.shape[1]), -np.inf)
        self.current = np.concatenate((self.current, more))
        self.previous = np.concatenate((self.previous, more))

    def observe(self, period: int, columns: Columns, *tables: Numbers) -> None:
        """Adds numbers, finite or NaN where there is none.

        Args:
            period: the period in which they came.
            columns: ``[T]``, which columns they are for.
            tables: ``[T, N]``, one for each of the W numbers of a column.
        """
        if period > self.period:
            blank = np.full(self.current.shape, -np.inf)
            self.previous = self.current if period == self.period + 1 else blank
            self.current, self.period = blank.copy(), period
        for place, numbers in enumerate(tables):
            _raise(columns, numbers, self.current, place)

    def read(self, period: int) -> Numbers:
        """``[C, W]`` maxima as of a period; NaN where nothing was seen."""
        return read_windows([self], period)


def read_windows(windows: Sequence[Window], period: int) -> Numbers:
    """``[C, W]`` maxima of all windows' columns, one window after the other; as one is read."""
    current = np.concatenate([window.current for window in windows])
    previous = np.concatenate([window.previous for window in windows])
    ages = np.repeat(
        [period - window.period for window in windows], [len(w.current) for w in windows]
    )[:, None]
    seen = np.where(ages <= 1, current, -np.inf)
    np.maximum(seen, previous, out=seen, where=ages <= 0)
    return np.where(seen == -np.inf, np.nan, seen)


_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_TABLE: Final = types.Array(types.float64, 2, "C", readonly=True)
_MAXIMA: Final = types.Array(types.float64, 2, "C")


@kernel(types.void(_COLUMNS, _TABLE, _MAXIMA, types.int64))
def _raise(
    columns: NDArray[np.integer[Any]],
    numbers: NDArray[np.floating[Any]],
    maxima: NDArray[np.floating[Any]],
    place: int,
) -> None:
    for i in range(len(columns)):
        line, column = numbers[i], columns[i]
        whole = len(line) // 4 * 4
        # Four side by side: to compare one after the other takes twice the time or more.
        first = second = third = fourth = maxima[column, place]
        for start in range(0, whole, 4):
            some = line[start : start + 4]
            first = some[0] if some[0] > first else first
            second = some[1] if some[1] > second else second
            third = some[2] if some[2] > third else third
            fourth = some[3] if some[3] > fourth else fourth
        highest = max(max(first, second), max(third, fourth))
        for number in line[whole:]:
            highest = number if number > highest else highest
        # Of two zeros of different signs either is the maximum; none shows its sign.
        maxima[column, place] = highest + 0.0
