"""A channel on a thread of its own."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from penaltyscope.telemetry._channel import Channel, Steps
from penaltyscope_events import Event

_logger = logging.getLogger("penaltyscope")


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    steps: Sequence[Steps]
    events: Sequence[Event]

    @property
    def size(self) -> int:
        return sum(len(part.block) for part in self.steps)


@dataclass(slots=True, eq=False)
class _Flush:
    deadline: float
    done: threading.Event = field(default_factory=threading.Event)
    arrived: bool = False


class Lane:
    """Calls a channel from a thread of its own, so that neither its pace nor its errors matter.

    What it cannot take yet waits, up to ``max_steps``; past that the oldest steps are given up. A
    batch that the channel raises on is lost. Both are counted.
    """

    def __init__(self, channel: Channel, *, name: str, max_steps: int = 65_536) -> None:
        self._channel = channel
        self._name = name
        self._max_steps = max_steps
        self._waiting: deque[_Batch | _Flush] = deque()
        self._waiting_steps = 0
        self._lost_steps = 0
        self._deadline: float | None = None
        self._failing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"penaltyscope-{name}", daemon=True)
        self._thread.start()

    @property
    def lost_steps(self) -> int:
        """Steps that were given up here or by the channel."""
        return self._lost_steps + self._channel.lost_steps

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Leaves one batch to the thread."""
        batch = _Batch(steps, events)
        with self._changed:
            self._waiting.append(batch)
            self._waiting_steps += batch.size
            while self._waiting_steps > self._max_steps:
                self._give_up_oldest()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until the channel has delivered all that was sent before."""
        flush = _Flush(time.monotonic() + timeout_seconds)
        with self._changed:
            self._waiting.append(flush)
            self._changed.notify_all()
        return flush.done.wait(timeout_seconds) and flush.arrived

    def begin_close(self, deadline: float) -> None:
        """Tells the thread to end by then, on the monotonic clock; does not wait."""
        with self._changed:
            self._deadline = deadline
            self._changed.notify_all()

    def close(self, timeout_seconds: float) -> None:
        """Ends; what the channel has not taken in time is given up."""
        deadline = time.monotonic() + timeout_seconds
        self.begin_close(deadline)
        self._thread.join(timeout_seconds)
        with self._changed:
            if left := self._waiting_steps:
                self._lost_steps += left
                self._waiting_steps = 0
                _logger.warning("%d steps were not delivered by %s", left, self._name)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._handle(item)
                self._failing = False
            except Exception as error:  # noqa: BLE001  # of whatever kind, it is logged
                self._failed(item, error)
        try:
            self._channel.close(max((self._deadline or 0.0) - time.monotonic(), 0.0))
        except Exception:
            _logger.exception("%s could not be closed", self._name)

    def _next(self) -> _Batch | _Flush | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
            expired = self._deadline is not None and time.monotonic() >= self._deadline
            if not self._waiting or expired:
                return None
            item = self._waiting.popleft()
            if isinstance(item, _Batch):
                self._waiting_steps -= item.size
            return item

    def _handle(self, item: _Batch | _Flush) -> None:
        if isinstance(item, _Batch):
            self._channel.send(item.steps, item.events)
            return
        try:
            item.arrived = self._channel.flush(max(item.deadline - time.monotonic(), 0.0))
        finally:
            item.done.set()

    def _failed(self, item: _Batch | _Flush, error: Exception) -> None:
        if isinstance(item, _Batch):
            self._lost_steps += item.size
        # Once for each time that it goes wrong, not once a second while a disk is full.
        if not self._failing:
            self._failing = True
            _logger.error("%s failed, what it cannot take is lost", self._name, exc_info=error)

    def _give_up_oldest(self) -> None:
        oldest = next(item for item in self._waiting if isinstance(item, _Batch) and item.size)
        self._waiting.remove(oldest)
        self._waiting_steps -= oldest.size
        self._lost_steps += oldest.size
