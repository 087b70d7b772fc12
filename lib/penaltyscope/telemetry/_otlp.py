"""Our own sender: OTLP over HTTP in protobuf, with OTLP's rules for trying again.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP".
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._outbox import MemoryOutbox, Outbox, Request
from penaltyscope.telemetry._receiver import Receiver
from penaltyscope_events import (
    Event,
    RunIdentity,
    enclose,
    encode_events,
    encode_resource,
    encode_steps,
)
from penaltyscope_events.delivery import LONGEST_WAIT_SECONDS, compressed

_logger = logging.getLogger("penaltyscope")

_FIRST_WAIT_SECONDS = 0.5
_QUEUE_BYTES = 64 * 1024 * 1024
_REQUEST_BYTES = 1 << 20
"""A request is closed at the latest when it holds so many bytes, before compression."""


class _Part(NamedTuple):
    """Some ``ScopeLogs``, and the number of steps in them."""

    data: bytes
    steps: int


class OTLPSender:
    """A channel that posts to an OTLP/HTTP receiver and never makes its caller wait.

    What is taken goes at once; what comes meanwhile travels in the next request, since a request
    costs more than its steps. Requests keep their order. While the receiver is away they wait in
    the outbox, which is bounded.

    A receiver that keeps up has answered one request when the next is taken. So whoever calls also
    sends, and reads what was answered to the request before; a thread of its own does whatever has
    to be waited for, such as an answer that is not there yet, or the next attempt.
    """

    def __init__(
        self, destination: Destination, identity: RunIdentity, *, outbox: Outbox | None = None
    ) -> None:
        self._destination = destination
        self._resource = encode_resource(identity)
        self._outbox = MemoryOutbox(_QUEUE_BYTES) if outbox is None else outbox
        self._receiver = Receiver(destination)
        """For the thread alone while it works, else for whoever holds the lock."""
        self._open: deque[_Part] = deque()
        """Scopes of the next request."""
        self._open_bytes = 0
        self._lost_steps = 0
        self._working = bool(self._outbox)
        """Whether the thread has something to do."""
        self._denied_at_end = False
        self._deadline: float | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="penaltyscope-sender", daemon=True)
        self._thread.start()

    @property
    def lost_steps(self) -> int:
        """Steps that were refused by the receiver or given up for want of room or time."""
        return self._lost_steps + self._receiver.lost_steps + self._outbox.lost_steps

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Encodes the steps and events, and sends them or puts them into the next request."""
        parts = [_Part(encode_events(events), 0)] if events else []
        parts += [_Part(encode_steps(s.made, s.traces), len(s.traces)) for s in steps]
        with self._lock:
            for part in parts:
                self._open.append(part)
                self._open_bytes += len(part.data)
            if not self._working and not self._pass_on():
                self._work()
            if self._open and (self._open_bytes >= _REQUEST_BYTES or self._outbox.durable):
                self._close_requests()

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until nothing is left to send."""
        with self._changed:
            self._work()
            return self._changed.wait_for(lambda: not (self._outbox or self._open), timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Sends what is queued, within the time, and ends."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_seconds
            self._work()
        self._thread.join(timeout_seconds)
        with self._changed:
            if left := self._outbox.close() + sum(part.steps for part in self._open):
                self._lost_steps += left
                _logger.warning("%d steps were not delivered to %s", left, self._destination.url)

    def _pass_on(self) -> bool:
        """Sends what is open if nothing has to be waited for."""
        if self._receiver.underway is not None:
            if not self._receiver.arrived():
                return False
            self._outbox.drop_first()
        if not self._receiver.connected:
            return False
        self._close_requests()
        request = self._outbox.first() if len(self._outbox) == 1 else None
        return request is not None and self._receiver.offer(request)

    def _work(self) -> None:
        """Leaves everything to the thread until nothing is left."""
        self._working = True
        self._changed.notify_all()

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._working)
                self._close_requests()
                if self._expired() or (self._deadline is not None and not self._outbox):
                    self._receiver.close()
                    return
                batch = self._receiver.underway or self._outbox.first()
                if batch is None:
                    self._working = False
                    self._changed.notify_all()
                    continue
            retry_after = self._receiver.deliver(batch, self._timeout())
            if retry_after is None:
                wait = _FIRST_WAIT_SECONDS
                with self._changed:
                    self._outbox.drop_first()
                    self._changed.notify_all()
                continue
            # While closing, asking once more would not make the token a better one.
            self._denied_at_end = self._receiver.denied and self._deadline is not None
            # Jitter, so that a thousand ranks do not come back in the same instant.
            pause = max(retry_after, wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._deadline is not None, pause)
                if self._deadline is not None:
                    # Closing: try again at once, but not in a tight loop.
                    self._changed.wait(0.1)

    def _timeout(self) -> float:
        if self._deadline is None:
            return self._destination.timeout_seconds
        left = max(self._deadline - time.monotonic(), 0.05)
        return min(self._destination.timeout_seconds, left)

    def _expired(self) -> bool:
        if self._deadline is None:
            return False
        return self._denied_at_end or time.monotonic() >= self._deadline

    def _close_requests(self) -> None:
        """Makes requests of what is open."""
        waiting = self._open
        while waiting:
            part = waiting.popleft()
            scopes, size, steps = [part.data], len(part.data), part.steps
            while waiting and size + len(waiting[0].data) <= _REQUEST_BYTES:
                part = waiting.popleft()
                scopes.append(part.data)
                size += len(part.data)
                steps += part.steps
            data = enclose(self._resource, scopes)
            if self._destination.gzip:
                data = compressed(data)
            self._outbox.append(Request(data, steps))
        self._open_bytes = 0
