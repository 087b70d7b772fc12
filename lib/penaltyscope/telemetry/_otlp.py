"""Our own sender: OTLP over HTTP in protobuf, with OTLP's rules for trying again.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP" (retryable response codes, throttling,
partial success).
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._http import Connection, Response
from penaltyscope.telemetry._outbox import MemoryOutbox, Outbox, Request
from penaltyscope_events import (
    Event,
    RunIdentity,
    enclose,
    encode_events,
    encode_resource,
    encode_steps,
)
from penaltyscope_events.delivery import (
    DENIED,
    LONGEST_WAIT_SECONDS,
    RETRYABLE,
    compressed,
    plain,
    retry_after_seconds,
)

_logger = logging.getLogger("penaltyscope")

_FIRST_WAIT_SECONDS = 0.5
_DENIED_WAIT_SECONDS = 60.0
"""OTLP would give such requests up. But tokens are renewed while jobs run, and steps are not."""
_QUEUE_BYTES = 64 * 1024 * 1024
_REQUEST_BYTES = 1 << 20
"""A request is closed at the latest when it holds so many bytes, before compression."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Some ``ScopeLogs``, and the number of steps in them."""

    data: bytes
    steps: int


class OTLPSender:
    """A channel that posts to an OTLP/HTTP receiver from a thread of its own.

    What is taken goes at once; what comes meanwhile travels in the next request, since a request
    costs more than its steps. Requests keep their order. While the receiver is away they wait in
    the outbox, which is bounded.
    """

    def __init__(
        self, destination: Destination, identity: RunIdentity, *, outbox: Outbox | None = None
    ) -> None:
        self._destination = destination
        self._resource = encode_resource(identity)
        self._outbox = MemoryOutbox(_QUEUE_BYTES) if outbox is None else outbox
        self._connection = Connection(destination, _headers(destination))
        self._open: deque[_Part] = deque()
        """Scopes of the next request."""
        self._open_bytes = 0
        self._lost_steps = 0
        self._reachable = True
        self._denied_at_end = False
        self._deadline: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="penaltyscope-sender", daemon=True)
        self._thread.start()

    @property
    def lost_steps(self) -> int:
        """Steps that were refused by the receiver or given up for want of room or time."""
        return self._lost_steps + self._outbox.lost_steps

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Encodes the steps and events, and puts them into the next request."""
        parts = [_Part(encode_events(events), 0)] if events else []
        parts += [_Part(encode_steps(s.block, s.traces), len(s.block)) for s in steps]
        with self._changed:
            self._open.extend(parts)
            self._open_bytes += sum(len(part.data) for part in parts)
            if self._open_bytes >= _REQUEST_BYTES or self._outbox.durable:
                self._close_requests()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until nothing is left to send."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._outbox or self._open), timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Sends what is queued, within the time, and ends."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_seconds
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed:
            if left := self._outbox.close() + sum(part.steps for part in self._open):
                self._lost_steps += left
                _logger.warning("%d steps were not delivered to %s", left, self._destination.url)

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                self._close_requests()
                if self._expired() or (self._deadline is not None and not self._outbox):
                    self._connection.close()
                    return
                batch = self._outbox.first()
                if batch is None:  # what there was cannot be read again
                    self._changed.notify_all()
                    continue
            retry_after = self._post(batch)
            if retry_after is None:
                wait = _FIRST_WAIT_SECONDS
                with self._changed:
                    self._outbox.drop_first()
                    self._changed.notify_all()
                continue
            # Jitter, so that a thousand ranks do not come back in the same instant.
            pause = max(retry_after, wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._deadline is not None, pause)
                if self._deadline is not None:
                    # Closing: try again at once, but not in a tight loop.
                    self._changed.wait(0.1)

    def _post(self, batch: Request) -> float | None:
        """None when done with the batch, delivered or refused; else seconds to wait at least."""
        # What an earlier process left may have been written under another setting.
        body = compressed(batch.body) if self._destination.gzip else plain(batch.body)
        try:
            response = self._connection.post(body, self._timeout())
        except (OSError, UnicodeError) as error:  # the latter by a host name that cannot be one
            self._unreachable(f"{type(error).__name__}: {error}")
            return 0.0
        if response.status in DENIED:
            self._denied(response)
            return _DENIED_WAIT_SECONDS
        if response.status in RETRYABLE:
            self._unreachable(f"HTTP {response.status}")
            return retry_after_seconds(response.headers.get("retry-after"))
        if not self._reachable:
            self._reachable = True
            _logger.warning("%s is reachable again", self._destination.url)
        if response.status >= 300:
            self._lost_steps += batch.steps
            _logger.error(
                "%s refused %d steps with HTTP %d: %s",
                self._destination.url,
                batch.steps,
                response.status,
                _text(response.body),
            )
        elif response.body:
            # An empty ExportLogsServiceResponse has no bytes; anything else is a partial success.
            _logger.warning("%s reports: %s", self._destination.url, _text(response.body))
        return None

    def _timeout(self) -> float:
        if self._deadline is None:
            return self._destination.timeout_seconds
        left = max(self._deadline - time.monotonic(), 0.05)
        return min(self._destination.timeout_seconds, left)

    def _unreachable(self, reason: str) -> None:
        if self._reachable:
            self._reachable = False
            _logger.warning(
                "%s cannot take telemetry, will retry: %s", self._destination.url, reason
            )

    def _denied(self, response: Response) -> None:
        # While closing, asking once more would not make the token a better one.
        self._denied_at_end = self._deadline is not None
        if self._reachable:
            self._reachable = False
            _logger.error(
                "%s lets nobody in with this token (HTTP %d: %s): steps are kept and sent again "
                "every %g s; see OTEL_EXPORTER_OTLP_HEADERS",
                *(self._destination.url, response.status, _text(response.body)),
                _DENIED_WAIT_SECONDS,
            )

    def _expired(self) -> bool:
        if self._deadline is None:
            return False
        return self._denied_at_end or time.monotonic() >= self._deadline

    def _due(self) -> bool:
        return bool(self._open or self._outbox or self._deadline is not None)

    def _close_requests(self) -> None:
        """Makes requests of what is open."""
        while self._open:
            parts = [self._open.popleft()]
            size = len(parts[0].data)
            while self._open and size + len(self._open[0].data) <= _REQUEST_BYTES:
                parts.append(self._open.popleft())
                size += len(parts[-1].data)
            data = enclose(self._resource, [part.data for part in parts])
            if self._destination.gzip:
                data = compressed(data)
            self._outbox.append(Request(data, sum(part.steps for part in parts)))
        self._open_bytes = 0


def _headers(destination: Destination) -> dict[str, str]:
    headers = {
        "content-type": "application/x-protobuf",
        "user-agent": f"penaltyscope/{version('penaltyscope')}",
        **destination.headers,
    }
    return headers | {"content-encoding": "gzip"} if destination.gzip else headers


def _text(data: bytes) -> str:
    """What a ``Status`` or a partial success says, field 2 of both, for a log line."""
    text = data.partition(b"\x12")[2]
    text = text[2 if text[:1] >= b"\x80" else 1 :] or data  # behind its length
    return "".join(c for c in text[:500].decode("utf-8", "replace") if c.isprintable())
