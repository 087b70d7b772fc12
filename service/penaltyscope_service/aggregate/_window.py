"""The largest numbers of the last moments, for everyone who looks in from time to time."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

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

    def enter(self, period: int) -> Numbers:
        """Goes on to a period; the maxima that it returns, ``[C, W]``, are there to be raised."""
        if period > self.period:
            blank = np.full(self.current.shape, -np.inf)
            self.previous = self.current if period == self.period + 1 else blank
            self.current, self.period = blank.copy(), period
        return self.current

    def read(self, period: int) -> Numbers:
        """``[C, W]`` maxima as of a period; NaN where nothing was seen."""
        seen = np.full(self.current.shape, -np.inf)
        if period <= self.period + 1:
            seen = self.current
        if period <= self.period:
            seen = np.maximum(seen, self.previous)
        return np.where(seen == -np.inf, np.nan, seen)
