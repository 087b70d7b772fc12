"""How long a step usually takes."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

Numbers = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

_LAST: Final = 64


@dataclass(slots=True)
class Intervals:
    """Medians over the last 64 times from one reported step to the next, by the job's clock."""

    step: int
    """The step that is going on; -1 when none was reported."""
    began_ns: int
    """When its first evaluation ended."""
    count: int
    seconds: NDArray[np.float64]
    """``[64, 2]``, in a ring: from report to report, and the same divided by the steps between."""
    median: NDArray[np.float64]
    """``[2]``: of both; NaN while unknown."""

    @classmethod
    def empty(cls) -> Self:
        """Nothing is known."""
        return cls(-1, 0, 0, np.full((_LAST, 2), np.nan), np.full(2, np.nan))

    def forget_step(self) -> None:
        """What comes next is by another process."""
        self.step = -1

    def observe(self, step: NDArray[np.int64], stop_ns: NDArray[np.int64]) -> None:
        """Adds evaluations, in order of arrival."""
        self.median = np.empty(2)
        self.step, self.began_ns, self.count = _observe(
            step, stop_ns, self.step, self.began_ns, self.count, self.seconds, self.median
        )


_LINE: Final = types.Array(types.float64, 1, "C")


@part(types.float64(_LINE))
def _lower_median(numbers: Numbers) -> float:
    """Of an even number the lower middle; NaN if there is none.

    For so few numbers, to count the smaller ones of each is quicker than to sort.
    """
    for number in numbers:
        smaller = not_larger = 0
        for other in numbers:
            smaller += other < number
            not_larger += other <= number
        if smaller <= (len(numbers) - 1) // 2 < not_larger:
            return float(number)
    return np.nan


_COLUMN: Final = types.Array(types.int64, 1, "A", readonly=True)
_RING: Final = types.Array(types.float64, 2, "C")


@kernel(
    types.UniTuple(types.int64, 3)(
        *(_COLUMN, _COLUMN, types.int64, types.int64, types.int64, _RING, _LINE)
    )
)
def _observe(
    step: Integers,
    stop_ns: Integers,
    before: int,
    began_ns: int,
    count: int,
    seconds: Numbers,
    median: Numbers,
) -> tuple[int, int, int]:
    """Adds evaluations to the ring; returns the step that goes on, its begin, and the count."""
    new = np.empty((_LAST, 2), np.int64)
    known = count
    for i in range(len(step)):
        if step[i] == before:
            continue
        steps, passed_ns = step[i] - before, stop_ns[i] - began_ns
        if before >= 0 and steps > 0 and passed_ns > 0:  # what arrives late goes back first
            new[count % _LAST, 0], new[count % _LAST, 1] = steps, passed_ns
            count += 1
        before, began_ns = step[i], stop_ns[i]
    for i in range(max(known, count - _LAST), count):
        place = i % _LAST
        seconds[place, 0] = new[place, 1] / 1e9
        seconds[place, 1] = seconds[place, 0] / new[place, 0]
    for column in range(2):
        median[column] = _lower_median(seconds[:count, column].copy())
    return before, began_ns, count
