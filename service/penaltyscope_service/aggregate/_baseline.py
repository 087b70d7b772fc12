"""What is usual for a number, slowly learned and not impressed by spikes."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.aggregate._median import lower_medians
from penaltyscope_service.kernel import kernel

GROUP_ROWS: Final = 25
_GROUPS: Final = 41
_LEAST_GROUPS: Final = 2
"""There is a baseline after so many groups: 50 evaluations."""

Numbers = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


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

    def observe(self, columns: NDArray[np.int64], numbers: Numbers) -> None:
        """Adds numbers, finite or NaN where there is none.

        Args:
            columns: ``[T]``, which columns they are for.
            numbers: ``[T, N]``.
        """
        width = len(self.value)
        groups, rest = divmod(len(self.pending) + numbers.shape[1], GROUP_ROWS)
        complete, pending = np.empty((GROUP_ROWS, groups * width)), np.empty((rest, width))
        _regroup(columns, numbers, self.pending, complete, pending)
        self.pending = pending
        if groups:
            _enter(lower_medians(complete), self.medians, self.groups)
            usual = lower_medians(self.medians.T)
            self.value = np.where(self.groups >= _LEAST_GROUPS, usual, np.nan)


_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_TABLE: Final = types.Array(types.float64, 2, "C", readonly=True)
_ROWS: Final = types.Array(types.float64, 2, "C", readonly=True)
_NEW_ROWS: Final = types.Array(types.float64, 2, "C")


@kernel(types.void(_COLUMNS, _TABLE, _ROWS, _NEW_ROWS, _NEW_ROWS))
def _regroup(
    columns: Integers, numbers: Floats, before: Floats, complete: Floats, pending: Floats
) -> None:
    """Moves rows to where they are side by side with those of other groups.

    Args:
        columns: ``[T]``.
        numbers: ``[T, N]``.
        before: ``[<25, C]``, the rows that come first.
        complete: ``[25, G * C]``, takes the groups that are complete.
        pending: ``[<25, C]``, takes what is left.
    """
    width = pending.shape[1]
    if len(columns) < width:
        complete[:] = np.nan
        pending[:] = np.nan
    rows = len(before) + numbers.shape[1]
    # Group by group: what is read lies term by term, what is written row by row, and so much of
    # both fits into the nearest cache.
    for start in range(0, rows, GROUP_ROWS):
        first = start // GROUP_ROWS * width
        is_complete = start + GROUP_ROWS <= rows
        target = complete[:, first : first + width] if is_complete else pending
        old = max(len(before) - start, 0)
        for row in range(old):
            for column in range(width):
                target[row, column] = before[row, column]
        given = numbers[:, max(start - len(before), 0) : start - len(before) + GROUP_ROWS]
        for i in range(len(columns)):
            line, column = given[i], columns[i]
            for row in range(len(line)):
                target[old + row, column] = line[row]


_MEDIANS: Final = types.Array(types.float64, 1, "C", readonly=True)
_GROUP_COUNTS: Final = types.Array(types.int64, 1, "C")


@kernel(types.void(_MEDIANS, _NEW_ROWS, _GROUP_COUNTS))
def _enter(medians: Floats, ring: Floats, groups: Integers) -> None:
    """Adds ``[G * C]`` medians, NaN where a group had no number, to the ring, ``[C, 41]``."""
    width = len(groups)
    for i in range(len(medians)):
        median, column = medians[i], i % width
        if not np.isnan(median):
            ring[column, groups[column] % _GROUPS] = median
            groups[column] += 1
