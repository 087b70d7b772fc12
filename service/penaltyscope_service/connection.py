"""A connection that ends when its client is too slow, and is told when there are too many.

The server itself knows no limit for the size of a head, for the time that the head of a first
request takes, for a body that trickles, or for a reader that stops reading.
"""

import logging
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Reason = Literal["head", "body", "reply", "count"]

_logger: Final = logging.getLogger(__name__)

_HEAD_BYTES: Final = 65_536
"""Most bytes of a head; browsers and proxies send a few thousand."""


class ConnectionMetrics:
    """Counts connections that were ended, and says so once for each reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "penaltyscope_connections_ended",
            "HTTP connections that the service ended: head or body of a request came too slowly, "
            "a reply was not read, or the count of connections was too high.",
            ["reason"],
            registry=registry,
        )
        self._unsaid: set[Reason] = set(get_args(Reason))
        for reason in self._unsaid:
            self._ended.labels(reason)

    def ended(self, reason: Reason) -> None:
        """One more."""
        self._ended.labels(reason).inc()
        if reason in self._unsaid:
            self._unsaid.remove(reason)
            _logger.warning(
                "a connection was ended (%s); further ones only count in "
                "penaltyscope_connections_ended_total",
                reason,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one client may take of the server."""

    max_connections: int
    """Further ones are answered by ``overloaded``."""
    head_seconds: float
    """From the start of a connection, or of a further request, to the end of the head."""
    body_seconds: float
    """For the body of a request to come, and for a reply to be read."""
    overloaded: ASGIApp
    """Answers the requests of connections that are too many."""
    ended: Callable[[Reason], None]
    """Called whenever a connection is ended."""


class Connection(HttpToolsProtocol):
    """A connection of the server that is held to its limits."""

    limits: ConnectionLimits
    is_excess: bool = False
    """Whether there are too many connections, and this one is only told so."""
    part: Reason | None = "head"
    """What the client sends now; ``None`` between two requests."""
    _head_bytes: int = 0
    _owed: Reason | None = None
    """What the client is being waited for."""
    _receiving: TimerHandle | None = None
    _sending: TimerHandle | None = None
    _resting: TimerHandle | None = None
    """Ends a connection on which nothing happens; it goes on while others come and go."""
    _idle_since: float | None = None
    """When the last answer was given, by the event loop's clock, if nothing has come since."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Waits for a head; nothing but a refusal if there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.limits.ended("count")
            self.app = self.limits.overloaded
            self.is_excess = True
        self._await(self.part)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing any more."""
        self._await(None)
        self._read_on()
        if self._resting is not None:
            self._resting.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Waits for what is missing now: for a request that came in one piece, nothing."""
        self._head_bytes += len(data)  # and 0 again where a head begins
        self.read(data)
        if self.part == "head" and self._head_bytes > _HEAD_BYTES:
            self._end("head")
        else:
            self._await(self.part)

    def read(self, data: bytes) -> None:
        """Gives it to the parser."""
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.part, self._head_bytes = "head", 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of its head."""
        self.part = "body"
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of its body, which may have been answered before."""
        self.part = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As its parent's, but for the timer that its parent makes anew after every answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._resting is None:
            self._rest(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Ends the connection, if nothing has happened for so long."""
        self._resting = None
        if self._idle_since is None:  # the next answer sets the timer again
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._rest(left)
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Waits for the client to read."""
        super().pause_writing()
        self._sending = self.loop.call_later(self.limits.body_seconds, self._end, "reply")

    def resume_writing(self) -> None:
        """The client has read."""
        self._read_on()
        super().resume_writing()

    def _await(self, owed: Reason | None) -> None:
        if owed == self._owed:
            return
        self._owed = owed
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        if owed is not None:
            seconds = self.limits.head_seconds if owed == "head" else self.limits.body_seconds
            self._receiving = self.loop.call_later(seconds, self._end, owed)

    def _rest(self, seconds: float) -> None:
        self._resting = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Of the parent: something has come."""
        self._idle_since = None

    def _read_on(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _end(self, reason: Reason) -> None:
        self.limits.ended(reason)
        self.transport.abort()
