"""The last finite numbers: what a gauge shows while the newest number is a NaN."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.aggregate._histogram import Columns

Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Gauges:
    """By column, the finite number of the latest evaluation that had one."""

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

    def observe(
        self,
        columns: Columns,
        seq: NDArray[np.int64],
        numbers: Numbers,
        real: NDArray[np.bool_],
    ) -> bool:
        """Adds evaluations in ascending order of ``seq``.

        Args:
            columns: which columns they are for.
            seq: ``[N]``.
            numbers: ``[N, C, G]``.
            real: ``[N, C, G]``, which numbers mean something.

        Returns:
            Whether there was a finite number for every gauge: earlier rows cannot matter then.
        """
        finite = real & np.isfinite(numbers)
        if len(seq) == 1:
            found, latest, latest_seq = finite[0], numbers[0], seq[0]
        else:
            found = finite.any(axis=0)
            last = len(seq) - 1 - finite[::-1].argmax(axis=0)
            latest, latest_seq = np.take_along_axis(numbers, last[None], axis=0)[0], seq[last]
        newer = found & (latest_seq > self.seq[columns])
        self.finite[columns] = np.where(newer, latest, self.finite[columns])
        self.seq[columns] = np.where(newer, latest_seq, self.seq[columns])
        return bool(found.all())
