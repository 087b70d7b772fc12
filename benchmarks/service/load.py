"""One client for all servers: keeps connections busy with requests that were made before."""

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class Sent:
    """What came of a number of requests."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Seconds from the first byte out to the last byte in, of each request."""


@dataclass(slots=True)
class _Connection:
    """At most one request is on its way."""

    socket: socket.socket
    waiting: Iterator[tuple[int, bytes]]
    """The connection's own requests, and their places among all."""
    began: float = 0.0
    received: bytes = b""
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))


def request(path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> bytes:
    """The bytes of a whole request."""
    fields = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def send(
    port: int, requests: Sequence[bytes], *, connections: int, per_second: float | None = None
) -> Sent:
    """Sends all requests, each connection its next one as soon as it has its answer.

    Connections take turns, so that what one job sends stays in order where the number of jobs is
    a multiple of that of connections.

    Args:
        port: of the server on this machine.
        requests: made by :func:`request`, sent in this order.
        connections: kept open throughout; a connection is what one job has.
        per_second: of requests at most, evenly in time; as fast as they go by default.

    Raises:
        RuntimeError: if an answer is no success.
    """
    selector = selectors.DefaultSelector()
    for i in range(connections):
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        own = ((n, requests[n]) for n in range(i, len(requests), connections))
        selector.register(opened, selectors.EVENT_WRITE, _Connection(opened, own))
    sent = Sent(0.0)
    pace = 1 / per_second if per_second else 0.0
    began = time.perf_counter()
    while selector.get_map():
        for key, _ in selector.select():
            _advance(selector, key.data, sent, began, pace)
    sent.seconds = time.perf_counter() - began
    return sent


def _advance(
    selector: selectors.BaseSelector,
    connection: _Connection,
    sent: Sent,
    began: float,
    pace: float,
) -> None:
    if connection.began and not connection.unsent:
        if not _answered(connection):
            return
        sent.latencies.append(time.perf_counter() - connection.began)
        connection.began = 0.0
    if not connection.unsent:
        place, following = next(connection.waiting, (0, b""))
        if not following:
            selector.unregister(connection.socket)
            connection.socket.close()
            return
        time.sleep(max(began + place * pace - time.perf_counter(), 0.0))
        connection.began, connection.unsent = time.perf_counter(), memoryview(following)
    _write(selector, connection)


def _write(selector: selectors.BaseSelector, connection: _Connection) -> None:
    count = connection.socket.send(connection.unsent)
    connection.unsent = connection.unsent[count:]
    events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
    selector.modify(connection.socket, events, connection)


def _answered(connection: _Connection) -> bool:
    """Whether the answer is complete."""
    chunk = connection.socket.recv(1 << 20)
    connection.received += chunk
    head, end, body = connection.received.partition(_HEAD_END)
    if not end:
        if not chunk:
            raise RuntimeError(f"the server hung up after {connection.received!r}")
        return False
    if head[9:10] != b"2":
        raise RuntimeError(f"the server answered {connection.received!r}")
    if len(body) < _length(head):
        return False
    connection.received = b""
    return True


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
