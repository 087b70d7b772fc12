"""One OTLP/HTTP request, from its head to its reply, whoever reads it off a connection."""

import time
from collections.abc import Callable

from penaltyscope_service.access import Headers, Token
from penaltyscope_service.ingest._body import too_large
from penaltyscope_service.ingest._head import Head, read_content_type, read_head
from penaltyscope_service.ingest._inflow import Arriving
from penaltyscope_service.ingest._job import Job, Outcome
from penaltyscope_service.ingest._receiver import Receiver
from penaltyscope_service.ingest._reply import Reply, accept, refuse
from penaltyscope_service.ingest._signal import Signal
from penaltyscope_service.ingest._status import as_refusal


class Exchange:
    """Takes a request piece by piece, and gives its reply as soon as there is one.

    Nothing here waits: a task for each request is dearer than most of the work for a small one.
    """

    _head: Head
    _token: Token | None
    _arriving: Arriving | None = None
    """The body, while it is read."""

    def __init__(self, receiver: Receiver, signal: Signal, reply: Callable[[Reply], None]) -> None:
        """Begins a request.

        Args:
            receiver: keeps what is in it.
            signal: what its path says.
            reply: called once, unless the request is abandoned.
        """
        self._receiver = receiver
        self._signal = signal
        self._reply = reply
        self._chunks: list[bytes] = []
        self._started = time.perf_counter()

    @property
    def is_read(self) -> bool:
        """Whether more of the body is of use: not after a refusal."""
        return self._arriving is not None

    def begin(self, method: str, headers: Headers) -> Head | None:
        """Judges the head: who must not send, or what is of no use, is refused at once.

        Returns:
            What the head says, for ``resume``; ``None`` if that is of no use.
        """
        limit = self._receiver.max_body_bytes
        self._content_type = read_content_type(headers)
        try:
            head = read_head(method, headers, self._content_type, limit)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is answered
            self._refuse(error)
            return None
        self.resume(head, headers)
        return head

    def resume(self, head: Head, headers: Headers) -> None:
        """As ``begin``, where it is known what the head says: asks only who sends."""
        self._head, self._content_type = head, head.content_type
        try:
            self._token = self._receiver.admit(headers)
        except Exception as error:  # noqa: BLE001  # as above
            self._refuse(error)
        else:
            self._arriving = self._receiver.inflow.begin()

    def feed(self, chunk: bytes) -> None:
        """Takes a piece of the body."""
        arriving = self._arriving
        if arriving is None:
            return
        limit = self._receiver.max_body_bytes
        self._chunks.append(chunk)
        try:
            arriving.add(len(chunk))
            if arriving.size > limit:
                raise too_large(limit)
        except Exception as error:  # noqa: BLE001  # as above
            self.abandon()
            self._refuse(error)

    def end(self) -> Job | None:
        """The body is complete: what is waited for now, if anything."""
        if self._arriving is None:
            return None
        body = b"".join(self._chunks)
        self.abandon()
        try:
            return self._receiver.keep(self._signal, body, self._head, self._token, self._answer)
        except Exception as error:  # noqa: BLE001  # as above
            self._refuse(error)
            return None

    def abandon(self) -> None:
        """Forgets what was read."""
        self._chunks.clear()
        if self._arriving is not None:
            self._arriving.close()
            self._arriving = None

    def _answer(self, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self._refuse(outcome)
            return
        self._receiver.kept(outcome, self._token)
        self._give(accept(self._signal, self._head.content_type, outcome))

    def _refuse(self, error: Exception) -> None:
        self._give(refuse(as_refusal(error), self._content_type))

    def _give(self, reply: Reply) -> None:
        self._receiver.metrics.answered(reply.status, time.perf_counter() - self._started)
        # Whoever is called may well hold this exchange: then only a collection would free both.
        give, self._reply = self._reply, _ignore
        give(reply)


def _ignore(_reply: Reply) -> None:
    """There is one reply."""
