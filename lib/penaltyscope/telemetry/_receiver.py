"""Whoever takes the requests, and what its answers mean.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP" (retryable response codes, throttling,
partial success).
"""

import logging
from importlib.metadata import version

from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._http import ACCEPTED, Connection, Response
from penaltyscope.telemetry._outbox import Request
from penaltyscope_events.delivery import (
    DENIED,
    RETRYABLE,
    compressed,
    plain,
    retry_after_seconds,
)

_logger = logging.getLogger("penaltyscope")

_NOT_FOR_GOOD = RETRYABLE | DENIED
_DENIED_WAIT_SECONDS = 60.0
"""OTLP would give such requests up. But tokens are renewed while jobs run, and steps are not."""


class Receiver:
    """Takes one request at a time; used by one thread at a time."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._connection = Connection(destination, _headers(destination))
        self._reachable = True
        self._response: Response | None = None
        self.underway: Request | None = None
        """What was offered, and is not known to have arrived."""
        self.denied = False
        """Whether it has last refused whoever sends."""
        self.lost_steps = 0
        """Steps that were refused."""

    @property
    def connected(self) -> bool:
        """Whether requests can be offered."""
        return self._connection.at_hand

    def offer(self, request: Request) -> bool:
        """Sends a request without waiting; false if that cannot be, with nothing sent."""
        offered = self._connection.offer(self._body(request))
        self.underway = request if offered else None
        return offered

    def arrived(self) -> bool:
        """Whether what is underway was answered for good; does not wait.

        False also if it has to be sent again, or nobody knows: then ``deliver`` goes on with it.
        """
        if self.underway is None:
            return False
        try:
            self._response = self._connection.answer(0.0)
        except BlockingIOError:
            return False
        except OSError:
            self.underway = None
            return False
        if self._response is ACCEPTED and self._reachable:  # as most often
            self.underway = self._response = None
            return True
        if self._response.status in _NOT_FOR_GOOD:
            return False
        return self.deliver(self.underway, 0.0) is None

    def deliver(self, request: Request, timeout_seconds: float) -> float | None:
        """Sends a request, or goes on with it if it is underway, and waits for the answer.

        Returns None when done with it, delivered or refused; else seconds to wait at least.
        """
        self.denied = False
        try:
            response = self._answer(request, timeout_seconds)
        except (OSError, UnicodeError) as error:  # the latter by a host name that cannot be one
            self._unreachable(f"{type(error).__name__}: {error}")
            return 0.0
        if response.status in DENIED:
            self.denied = True
            self._deny(response)
            return _DENIED_WAIT_SECONDS
        if response.status in RETRYABLE:
            self._unreachable(f"HTTP {response.status}")
            return retry_after_seconds(response.headers.get("retry-after"))
        if not self._reachable:
            self._reachable = True
            _logger.warning("%s is reachable again", self._destination.url)
        self._finish(request, response)
        return None

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _answer(self, request: Request, timeout_seconds: float) -> Response:
        underway, response = self.underway, self._response
        self.underway = self._response = None
        if underway is request and response is not None:
            return response
        if underway is request:
            try:
                return self._connection.answer(timeout_seconds)
            except ConnectionError:  # it was closed, as idle connections are
                pass
        return self._connection.post(self._body(request), timeout_seconds)

    def _body(self, request: Request) -> bytes:
        # What an earlier process left may have been written under another setting.
        return compressed(request.body) if self._destination.gzip else plain(request.body)

    def _finish(self, request: Request, response: Response) -> None:
        if response.status >= 300:
            self.lost_steps += request.steps
            _logger.error(
                "%s refused %d steps with HTTP %d: %s",
                self._destination.url,
                request.steps,
                response.status,
                _text(response.body),
            )
        elif response.body:
            # An empty ExportLogsServiceResponse has no bytes; anything else is a partial success.
            _logger.warning("%s reports: %s", self._destination.url, _text(response.body))

    def _unreachable(self, reason: str) -> None:
        if self._reachable:
            self._reachable = False
            _logger.warning(
                "%s cannot take telemetry, will retry: %s", self._destination.url, reason
            )

    def _deny(self, response: Response) -> None:
        if self._reachable:
            self._reachable = False
            _logger.error(
                "%s lets nobody in with this token (HTTP %d: %s): steps are kept and sent again "
                "every %g s; see OTEL_EXPORTER_OTLP_HEADERS",
                *(self._destination.url, response.status, _text(response.body)),
                _DENIED_WAIT_SECONDS,
            )


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
