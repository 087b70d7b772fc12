"""Evaluations between the training thread, which appends, and the recorder's, which takes.

The ring is bounded: a full one loses its oldest, which nobody has to notice at once, since what was
appended, taken and is still there tells how many are gone.
"""

from collections import deque
from collections.abc import Callable

from penaltyscope.result import Statistics
from penaltyscope.telemetry._columns import Row

_FIRST_PATIENCE_SECONDS = 60.0
"""How long the first backward pass may take; it may include a compilation."""
_LEAST_PATIENCE_SECONDS = 2.0


class Ring:
    """References to the tensors of single evaluations, in order."""

    def __init__(self, capacity: int, time_ns: Callable[[], int]) -> None:
        self._rows: deque[Row] = deque(maxlen=capacity)
        self.append = self._rows.append
        """Adds an evaluation, in place of the oldest in a full ring."""
        self._held: Row | None = None
        """Taken out of the ring, but its norms are not there yet."""
        self._taken = 0
        self._overrun = 0
        self._time_ns = time_ns
        self._patience_seconds = _FIRST_PATIENCE_SECONDS

    def take(self, most: int, *, final: bool) -> list[Row]:
        """The next rows whose norms are there; one that waited too long goes without."""
        rows: list[Row] = []
        now = self._time_ns()
        while len(rows) < most:
            row = self._held
            if row is None:
                try:
                    row = self._rows.popleft()
                except IndexError:
                    break
            if not (final or self._ready(row[2], now)):
                self._held = row
                break
            self._held = None
            rows.append(row)
        self._taken += len(rows)
        return rows

    def lost(self, appended: int) -> int:
        """How many of those that were appended, at some time before this call, fell out."""
        kept = self._taken + len(self._rows) + (self._held is not None)
        # More may have come in since, which must not look like fewer losses.
        self._overrun = max(self._overrun, appended - kept)
        return self._overrun

    def _ready(self, statistics: Statistics, now: int) -> bool:
        tap = statistics.tap
        if tap is None:
            return True
        if tap.settled_ns:
            self._be_patient((tap.settled_ns - statistics.stop_ns) / 1e9)
            return True
        return (now - statistics.stop_ns) / 1e9 >= self._patience_seconds

    def _be_patient(self, took_seconds: float) -> None:
        longest = max(10 * took_seconds, _LEAST_PATIENCE_SECONDS)
        if self._patience_seconds == _FIRST_PATIENCE_SECONDS or longest > self._patience_seconds:
            self._patience_seconds = longest
