"""Our own sender: OTLP over HTTP in protobuf, with OTLP's rules for trying again.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP" (retryable response codes, throttling,
partial success).
"""

import gzip
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import urllib3

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._environment import Destination
from penaltyscope_events import Event, RunIdentity, encode_events, encode_request, encode_steps

_logger = logging.getLogger("penaltyscope")

_RETRYABLE = frozenset({429, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 15.0
_GZIP_LEVEL = 1  # within 10% of the default's size at a fraction of its time


@dataclass(frozen=True, slots=True)
class _Batch:
    body: bytes
    steps: int


class OTLPSender:
    """A channel that posts to an OTLP/HTTP receiver from a thread of its own.

    Batches keep their order. While the receiver is away they queue, up to ``max_queue_bytes``; past
    that the oldest are given up and counted.
    """

    def __init__(
        self,
        destination: Destination,
        identity: RunIdentity,
        *,
        max_queue_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._destination = destination
        self._identity = identity
        self._max_queue_bytes = max_queue_bytes
        self._headers = _headers(destination)
        self._pool = urllib3.PoolManager(
            retries=False,
            ca_certs=destination.certificate_file,
            cert_file=destination.client_certificate_file,
            key_file=destination.client_key_file,
        )
        self._queue: deque[_Batch] = deque()
        self._queued_bytes = 0
        self._lost_steps = 0
        self._reachable = True
        self._deadline: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="penaltyscope-sender", daemon=True)
        self._thread.start()

    @property
    def lost_steps(self) -> int:
        """Steps that were refused by the receiver or given up for want of room or time."""
        return self._lost_steps

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Encodes one request and puts it in the queue."""
        scopes = [encode_steps(part.block, part.traces) for part in steps]
        if events:
            scopes.append(encode_events(events))
        if not scopes:
            return
        body = encode_request(self._identity, scopes)
        if self._destination.gzip:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        with self._changed:
            self._queue.append(_Batch(body, sum(len(part.block) for part in steps)))
            self._queued_bytes += len(body)
            # The first is being sent; the one behind it is the oldest that can be given up.
            while self._queued_bytes > self._max_queue_bytes and len(self._queue) > 1:
                self._forget(1)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until the queue is empty."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Sends what is queued, within the time, and ends."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_seconds
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed:
            if left := sum(batch.steps for batch in self._queue):
                self._lost_steps += left
                _logger.warning("%d steps were not delivered to %s", left, self._destination.url)

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._deadline is not None)
                if not self._queue or self._expired():
                    return
                batch = self._queue[0]
            retry_after = self._post(batch)
            if retry_after is None:
                wait = _FIRST_WAIT_SECONDS
                with self._changed:
                    self._forget(0, lost=False)
                    self._changed.notify_all()
                continue
            # Jitter, so that a thousand ranks do not come back in the same instant.
            pause = max(retry_after, wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._deadline is not None, pause)
                if self._deadline is not None:
                    # Closing: try again at once, but not in a tight loop.
                    self._changed.wait(0.1)

    def _post(self, batch: _Batch) -> float | None:
        """None when done with the batch, delivered or refused; else seconds to wait at least."""
        try:
            response = self._pool.request(
                "POST",
                self._destination.url,
                body=batch.body,
                headers=self._headers,
                timeout=self._timeout(),
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            self._unreachable(f"{type(error).__name__}: {error}")
            return 0.0
        if response.status in _RETRYABLE:
            self._unreachable(f"HTTP {response.status}")
            return _retry_after(response.headers.get("Retry-After"))
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
                _text(response.data),
            )
        elif response.data:
            # An empty ExportLogsServiceResponse has no bytes; anything else is a partial success.
            _logger.warning("%s reports: %s", self._destination.url, _text(response.data))
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

    def _expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _forget(self, position: int, *, lost: bool = True) -> None:
        batch = self._queue[position]
        del self._queue[position]
        self._queued_bytes -= len(batch.body)
        if lost:
            self._lost_steps += batch.steps


def _headers(destination: Destination) -> dict[str, str]:
    headers = {
        "content-type": "application/x-protobuf",
        "user-agent": f"penaltyscope/{version('penaltyscope')}",
        **destination.headers,
    }
    return headers | {"content-encoding": "gzip"} if destination.gzip else headers


def _retry_after(text: str | None) -> float:
    # A date is allowed too, but no receiver of OTLP sends one; the backoff serves for it.
    return min(float(text), _LONGEST_WAIT_SECONDS) if text and text.isdigit() else 0.0


def _text(data: bytes) -> str:
    """The readable part of a small protobuf message, for a log line."""
    return "".join(c for c in data[:500].decode("utf-8", "replace") if c.isprintable())
