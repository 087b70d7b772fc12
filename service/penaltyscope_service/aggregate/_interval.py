"""How long a step usually takes."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.aggregate._baseline import lower_median

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
        if self.step >= 0:
            step = np.concatenate(([self.step], step))
            stop_ns = np.concatenate(([self.began_ns], stop_ns))
        later = np.flatnonzero(step[1:] != step[:-1]) + 1
        if len(later) < len(step) - 1:
            firsts = np.concatenate(([0], later))
            step, stop_ns = step[firsts], stop_ns[firsts]
        self.step, self.began_ns = int(step[-1]), int(stop_ns[-1])
        steps, passed_ns = step[1:] - step[:-1], stop_ns[1:] - stop_ns[:-1]
        forward = (steps > 0) & (passed_ns > 0)  # what arrives late goes back first
        self.count += int(np.count_nonzero(forward))
        seconds, steps = passed_ns[forward][-_LAST:] / 1e9, steps[forward][-_LAST:]
        new = np.array((seconds, seconds / steps)).T
        self.seconds[np.arange(self.count - len(new), self.count) % _LAST] = new
        self.median = lower_median(self.seconds.T)
