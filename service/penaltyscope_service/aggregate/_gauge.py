"""The last finite numbers: what a gauge shows while the newest number is a NaN."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Gauges:
    """By column, the finite number of the latest evaluation that had one.

    They are set by :mod:`~penaltyscope_service.aggregate._latest`.
    """

    finite: Numbers
    """``[C, G]``; NaN where there was none yet."""
    seq: NDArray[np.int64]
    """``[C, G]``: the evaluation it is of; what arrives late does not replace what is newer."""

    @classmethod
    def empty(cls, columns: int, gauges: int) -> Self:
        """Nothing was seen."""
        return cls(np.full((columns, gauges), np.nan), np.full((columns, gauges), -1))

    def widen(self, columns: int) -> None:
        """Adds columns."""
        more = Gauges.empty(columns, self.finite.shape[1])
        self.finite = np.concatenate((self.finite, more.finite))
        self.seq = np.concatenate((self.seq, more.seq))

    def forget_seq(self) -> None:
        """What comes next is by another process, and newer."""
        self.seq.fill(-1)
