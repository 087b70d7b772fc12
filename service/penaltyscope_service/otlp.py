"""A connection that answers OTLP by itself, and leaves everything else to the application.

What the server does for a request of an application, its scope, events and task, takes several
times as long as a small OTLP request. On one connection both may follow each other as they like.
"""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from penaltyscope_service.access import Headers, first_of_each
from penaltyscope_service.connection import Connection, ConnectionLimits
from penaltyscope_service.familiar import FamiliarHead
from penaltyscope_service.ingest import SIGNALS, Exchange, Head, Job, Receiver, Reply, Signal

_PATHS: Final = {path.encode(): signal for path, signal in SIGNALS.items()}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Turn:
    """An OTLP request where the server looks for the one that it is at, or that waits in line.

    The server reads ``response_complete`` and writes ``keep_alive``.
    """

    exchange: Exchange

    def __init__(self, *, keep_alive: bool, with_body: bool, is_next: bool, invite: bool) -> None:
        self.reply: Reply | None = None
        self.kept: Job | None = None
        self.response_complete = False
        self.keep_alive = keep_alive
        self.with_body = with_body
        """Whether the reply may have a body."""
        self.is_next = is_next
        """Whether all requests before it were answered."""
        self.invite = invite
        """Whether the client waits to be asked for the body."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read in a head that may come again."""

    bytes: FamiliarHead
    signal: Signal
    head: Head
    headers: Headers
    """Their ``content-length`` is an old one."""


class OtlpConnection(Connection):
    """One connection, its requests answered in the order in which they came."""

    receiver: Receiver
    cycle: Any
    """The newest request: one of the server's, or a turn of ours; so are the next two."""
    pipeline: deque[tuple[Any, Any]]
    tasks: set[Any]
    _known: _Known | None = None
    _start: bytes = b""
    """What the parser is given between two requests, until it has read a head in it."""
    _missing: int = 0
    """Bytes that are still to come of the body after a known head."""

    def read(self, data: bytes) -> None:
        """Takes requests whose head is known, and leaves everything else to the parser."""
        self._unset_keepalive_if_required()
        place = self._feed(data, 0) if self._missing else 0
        while place < len(data):
            start = self._recognise(data, place)
            if start is None:
                break
            place = self._feed(data, start)
        else:
            return
        rest = data[place:]
        self._start = rest if self.part is None else b""
        super().read(rest)

    def on_headers_complete(self) -> None:
        """Begins an exchange, or leaves the request to the application."""
        signal = None if self.is_excess else self._signal()
        start, self._start = self._start, b""
        if signal is None:
            super().on_headers_complete()
        else:
            self.part = "body"
            self._open(signal, start)

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        if isinstance(self.cycle, _Turn):
            self.cycle.exchange.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        turn = self.cycle
        if not isinstance(turn, _Turn):
            super().on_message_complete()
            return
        self.part = None
        turn.kept = turn.exchange.end()
        if turn.kept is not None:
            self.tasks.add(turn.kept)  # the server waits for it when it ends, but not for ever

    def connection_lost(self, exc: Exception | None) -> None:
        """What was read of a request is of no use any more."""
        if isinstance(self.cycle, _Turn):
            self.cycle.exchange.abandon()
            self.cycle = None
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has read: further requests may come."""
        super().resume_writing()
        self.flow.resume_reading()

    def _signal(self) -> Signal | None:
        signal = _PATHS.get(self.url)
        if signal is None:
            path = httptools.parse_url(self.url).path.decode("ascii")
            signal = SIGNALS.get(unquote(path))
        return signal

    def _recognise(self, data: bytes, place: int) -> int | None:
        """Begins the request that starts there, if its head is known: where its body starts."""
        known = self._known
        if known is None or self.part is not None:
            return None
        body = known.bytes.body(data, place)
        if body is None or body[1] > self.receiver.max_body_bytes:
            return None
        start, self._missing = body
        self.part = "body"
        turn = self._begin(known.signal)
        turn.exchange.resume(known.head, known.headers)
        return start

    def _feed(self, data: bytes, start: int) -> int:
        """Takes as much of a body as there is, and returns where that ends."""
        piece = data[start : start + self._missing]
        self._missing -= len(piece)
        self.on_body(piece)
        if not self._missing:
            self.on_message_complete()
        return start + len(piece)

    def _open(self, signal: Signal, start: bytes) -> None:
        """Begins the request whose head was read, perhaps right at the start of some bytes."""
        method = self.parser.get_method().decode("ascii")
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        turn = self._begin(
            signal,
            keep_alive=keep_alive,
            with_body=method != "HEAD",
            invite=self.expect_100_continue,
        )
        headers = first_of_each(self.headers)
        head = turn.exchange.begin(method, headers)
        if turn.is_next:
            self._invite(turn)
        if head is not None and keep_alive and start:
            self._remember(start, signal, head, headers)

    def _remember(self, start: bytes, signal: Signal, head: Head, headers: Headers) -> None:
        familiar = FamiliarHead.of(start, headers)
        if familiar is not None:
            self._known = _Known(familiar, signal, head, headers)

    def _begin(
        self,
        signal: Signal,
        *,
        keep_alive: bool = True,
        with_body: bool = True,
        invite: bool = False,
    ) -> _Turn:
        """The newest request; it waits in line where others were not answered yet."""
        before = self.cycle
        turn = _Turn(
            keep_alive=keep_alive,
            with_body=with_body,
            is_next=before is None or before.response_complete,
            invite=invite,
        )
        turn.exchange = Exchange(self.receiver, signal, partial(self._settle, turn))
        self.cycle = turn
        if not turn.is_next:
            self.flow.pause_reading()
            self.pipeline.appendleft((turn, self.app))
        return turn

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401  # the server's types
        """The turn of a request that waited in line."""
        if not isinstance(cycle, _Turn):
            super()._start_asgi_task(cycle, app)
            return
        cycle.is_next = True
        self._invite(cycle)
        if cycle.reply is not None:  # not at once: the line may be long, and the stack is not
            self.loop.call_soon(self._answer, cycle, cycle.reply)

    def _invite(self, turn: _Turn) -> None:
        if turn.invite and turn.exchange.is_read:
            self.transport.write(_CONTINUE)

    def _settle(self, turn: _Turn, reply: Reply) -> None:
        if turn.kept is not None:
            self.tasks.discard(turn.kept)
            turn.kept = None  # what was decoded is of no use until the next request
        if turn.is_next:
            self._answer(turn, reply)
        else:
            turn.reply = reply

    def _answer(self, turn: _Turn, reply: Reply) -> None:
        turn.response_complete = True
        if not self.transport.is_closing():
            common = tuple(self.server_state.default_headers)
            head = _head(reply.status, common, reply.fields, keep_alive=turn.keep_alive)
            self.transport.write(head + reply.body if turn.with_body else head)
            if not turn.keep_alive:
                self.transport.close()
        self.on_response_complete()
        if self.flow.write_paused:
            self.flow.pause_reading()


@lru_cache(maxsize=64)
def _head(
    status: int, common: tuple[tuple[bytes, bytes], ...], fields: bytes, *, keep_alive: bool
) -> bytes:
    """Of a reply, which is the same for nearly all that are sent within a second."""
    lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in common), fields]
    return b"".join((*lines, b"\r\n" if keep_alive else b"connection: close\r\n\r\n"))


def connections(receiver: Receiver, limits: ConnectionLimits) -> type[OtlpConnection]:
    """The protocol that the server makes connections of."""
    return type("LimitedConnection", (OtlpConnection,), {"receiver": receiver, "limits": limits})
