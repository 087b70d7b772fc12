"""What is usual for a number, slowly learned and not impressed by spikes."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

GROUP_ROWS: Final = 25
_GROUPS: Final = 41
_LEAST_GROUPS: Final = 2
"""There is a baseline after so many groups: 50 evaluations."""

Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Baseline:
    """A median of medians: of every 25 evaluations, over the last 41 such groups (1,025).

    An excursion moves a group's median only if it lasts for half of the group, and the baseline
    only if it does so for half of the groups: more than 250 evaluations out of 1,025, and then no
    further than to what was still seen between. Growth that is slower is followed. Medians are
    the lower ones, so that the baseline is always a number that was really seen.
    Reference: Rousseeuw & Bassett, The remedian: a robust averaging method for large data sets
    (1990).
    """

    pending: Numbers
    """``[<25, C]``: the group that is not complete; NaN where nothing was measured."""
    medians: Numbers
    """``[C, 41]``, in a ring; NaN where there is none yet."""
    groups: NDArray[np.int64]
    """``[C]``: how many groups had a number."""
    value: Numbers
    """``[C]``: the baseline; NaN while there is none."""

    @classmethod
    def empty(cls, columns: int) -> Self:
        """A baseline that has seen nothing."""
        return cls(
            pending=np.empty((0, columns)),
            medians=np.full((columns, _GROUPS), np.nan),
            groups=np.zeros(columns, np.int64),
            value=np.full(columns, np.nan),
        )

    def widen(self, columns: int) -> None:
        """Adds columns."""
        more = Baseline.empty(columns)
        unseen = np.full((len(self.pending), columns), np.nan)
        self.pending = np.concatenate((self.pending, unseen), axis=1)
        self.medians = np.concatenate((self.medians, more.medians))
        self.groups = np.concatenate((self.groups, more.groups))
        self.value = np.concatenate((self.value, more.value))

    def observe(self, numbers: Numbers) -> None:
        """Adds ``[N, C]`` numbers, every one finite or NaN where there is none."""
        rows = np.concatenate((self.pending, numbers))
        complete = len(rows) - len(rows) % GROUP_ROWS
        self.pending = rows[complete:].copy()
        if not complete:
            return
        columns = rows[:complete].reshape(-1, GROUP_ROWS, numbers.shape[1])
        medians = lower_median(columns.transpose(2, 0, 1))
        for start in range(0, medians.shape[1], _GROUPS):
            self._enter(medians[:, start : start + _GROUPS])
        usual = lower_median(self.medians)
        self.value = np.where(self.groups >= _LEAST_GROUPS, usual, np.nan)

    def _enter(self, medians: Numbers) -> None:
        """Adds ``[C, <=41]`` medians, NaN where a group had no number."""
        seen = ~np.isnan(medians)
        places = (self.groups[:, None] + np.cumsum(seen, axis=1) - 1) % _GROUPS
        self.medians[np.nonzero(seen)[0], places[seen]] = medians[seen]
        self.groups += seen.sum(axis=1)


def lower_median(numbers: Numbers) -> Numbers:
    """The median over the last axis, of an even number the lower middle; NaN do not count."""
    ordered = np.sort(numbers, axis=-1)  # NaN last
    everything: Numbers = ordered[..., (ordered.shape[-1] - 1) // 2]
    if not np.isnan(ordered[..., -1]).any():
        return everything
    count = (~np.isnan(numbers)).sum(axis=-1, keepdims=True)
    median: Numbers = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)[..., 0]
    return median
