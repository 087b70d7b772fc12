"""Evaluations between the training thread, which appends, and the recorder's, which takes.

The ring is bounded: a full one loses its oldest, which nobody has to notice at once, since what was
appended, taken and is still there tells how many are gone.
"""

from collections import deque
from collections.abc import Callable

from penaltyscope.telemetry._rows import Row

_FIRST_PATIENCE_SECONDS = 60.0
"""How long the first backward pass may take; it may include a compilation."""
_LEAST_PATIENCE_SECONDS = 2.0


class Ring:
    """References to the tensors of single evaluations, in order."""

    def __init__(self, capacity: int, time_ns: Callable[[], int]) -> None:
        self._rows: deque[Row] = deque(maxlen=capacity)
        self.append = self._rows.append
        """Adds an evaluation, in place of the oldest in a full ring."""
        self._held: list[Row] = []
        """Taken out of the ring, but the norms of the first are not there yet."""
        self._taken = 0
        self._overrun = 0
        self._time_ns = time_ns
        self._patience_seconds = _FIRST_PATIENCE_SECONDS

    @property
    def unsettled(self) -> bool:
        """Whether the last ``take`` left rows whose norms it waits for."""
        return bool(self._held)

    def take(self, most: int, *, final: bool) -> list[Row]:
        """The next rows whose norms are there; one that waited too long goes without."""
        rows, popleft = self._held, self._rows.popleft
        # Nobody else takes any, so these are there, whatever is appended meanwhile.
        rows += [popleft() for _ in range(min(len(self._rows), most - len(rows)))]
        if final or [row[2].tap for row in rows].count(None) == len(rows):  # as most often
            self._held = []
        else:
            count = self._settled(rows)
            rows, self._held = rows[:count], rows[count:]
        self._taken += len(rows)
        return rows

    def lost(self, appended: int) -> int:
        """How many of those that were appended, at some time before this call, fell out."""
        kept = self._taken + len(self._rows) + len(self._held)
        # More may have come in since, which must not look like fewer losses.
        self._overrun = max(self._overrun, appended - kept)
        return self._overrun

    def _settled(self, rows: list[Row]) -> int:
        """How many of the first rows need not be waited for."""
        now = self._time_ns()
        for count, (_, _, statistics, _, _) in enumerate(rows):
            if (tap := statistics.tap) is None:
                continue
            if tap.settled_ns:
                self._be_patient((tap.settled_ns - statistics.stop_ns) / 1e9)
            elif (now - statistics.stop_ns) / 1e9 < self._patience_seconds:
                return count
        return len(rows)

    def _be_patient(self, took_seconds: float) -> None:
        longest = max(10 * took_seconds, _LEAST_PATIENCE_SECONDS)
        if self._patience_seconds == _FIRST_PATIENCE_SECONDS or longest > self._patience_seconds:
            self._patience_seconds = longest
