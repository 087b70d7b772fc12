"""One kept-alive HTTP/1.1 connection that posts bodies to one URL.

General clients build and parse headers anew for every request, which costs many times what a whole
batch of steps costs to encode. Here the head of the request is made once, and of the response only
what a sender needs is read. Reference: RFC 9112.
"""

import http.client
import select
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from penaltyscope.telemetry._environment import Destination

_LONGEST_LINE = 1 << 16
_LONGEST_HEAD = 1 << 17
_MOST_HEADERS = 200
_LARGEST_BODY = 1 << 20
_READ_BYTES = 1 << 16
_DATE = b"\r\ndate: "


class Response(NamedTuple):
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


ACCEPTED = Response(200, {"content-length": "0"}, b"")
"""A yes that says nothing else."""


class Connection:
    """Opened by the first post, and again when the server has closed it; used by one at a time.

    Raises:
        ValueError: a header's name or value holds a line break or is not ASCII.
    """

    def __init__(self, destination: Destination, headers: Mapping[str, str]) -> None:
        self._destination = destination
        self._url = urlsplit(destination.url)
        self._encrypted = self._url.scheme == "https"
        self._head = _head(destination.url, headers)
        self._connection: http.client.HTTPConnection | None = None
        self._stream: _Stream | None = None
        self.at_hand = False
        """Whether one is open that is not encrypted: what that sends may have to wait to read."""

    def post(self, body: bytes, timeout_seconds: float) -> Response:
        """Sends the body and waits for the answer.

        Raises:
            OSError: the server was not reached, or answered something else than HTTP.
        """
        # Between two posts the server may have closed the connection, as idle ones are.
        if self._stream is not None and self._stream.readable():
            self.close()
        reused = self._connection is not None
        try:
            return self._exchange(body, timeout_seconds)
        except ConnectionError:
            if not reused:
                raise
        return self._exchange(body, timeout_seconds)

    def offer(self, body: bytes) -> bool:
        """Sends the body without waiting; ``answer`` brings the answer, and is to be called next.

        Returns false, with nothing sent, where none is at hand.
        """
        if self._stream is None or not self.at_hand:
            return False
        try:
            self._stream.send(self._head % len(body) + body, 0.0)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return False
        return True

    def answer(self, timeout_seconds: float) -> Response:
        """The answer to a body that was offered.

        Raises:
            BlockingIOError: it is not here yet, and the timeout is 0; it can be asked for again.
            OSError: as ``post``; it will not come any more.
        """
        if self._stream is None:
            raise ConnectionResetError("the connection was closed before an answer came")
        try:
            if self._stream.unsent or self._stream.timeout_seconds != timeout_seconds:
                self._stream.send(b"", timeout_seconds)
            if self._stream.accepted():
                return ACCEPTED
            response, reusable = _read(self._stream)
        except BlockingIOError:
            self._stream.begin_again()
            raise
        except BaseException:
            self.close()
            raise
        if reusable:
            self._stream.forget()
        else:
            self.close()
        return response

    def close(self) -> None:
        """Closes the connection; the next post opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._stream = self._connection = None
        self.at_hand = False

    def _exchange(self, body: bytes, timeout_seconds: float) -> Response:
        try:
            if self._connection is None or self._stream is None:
                self._connection = self._open(timeout_seconds)
                self._stream = _Stream(self._connection.sock, timeout_seconds)
                self.at_hand = not self._encrypted
            self._stream.send(self._head % len(body) + body, timeout_seconds)
        except BaseException:
            self.close()
            raise
        return self.answer(timeout_seconds)

    def _open(self, timeout_seconds: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._encrypted:
            context = ssl.create_default_context(cafile=self._destination.certificate_file)
            if (certificate := self._destination.client_certificate_file) is not None:
                context.load_cert_chain(certificate, self._destination.client_key_file)
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout_seconds, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        connection.connect()
        return connection


def _head(url: str, headers: Mapping[str, str]) -> bytes:
    """The request up to its body, with a place for the body's length."""
    parts = urlsplit(url)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc.rpartition('@')[2]}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    for line in lines:
        if "\r" in line or "\n" in line or not line.isascii():
            raise ValueError(f"headers must be ASCII text without line breaks, got {line!r}.")
    lines = [line.replace("%", "%%") for line in lines]
    return ("\r\n".join(lines) + "\r\ncontent-length: %d\r\n\r\n").encode()


class _Stream:
    """What goes to the server and comes from it; an ordinary answer takes one read."""

    def __init__(self, connected: socket.socket, timeout_seconds: float) -> None:
        self._socket = connected
        self.timeout_seconds = timeout_seconds
        """What the socket waits for, at most."""
        self.unsent = b""
        """What could not be sent yet."""
        self._last_yes = _NO_YES
        self._data = b""
        """What was read since the last ``forget``."""
        self._at = 0
        """So much of it was asked for."""
        self._poll = select.poll() if hasattr(select, "poll") else None  # Windows has none
        if self._poll is not None:
            self._poll.register(connected, select.POLLIN)

    def readable(self) -> bool:
        """Whether bytes, or the end of the stream, have arrived that nobody asked for."""
        if self._poll is None:
            return bool(select.select([self._socket], [], [], 0)[0])
        return bool(self._data or self._poll.poll(0))

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Sends what could not be sent before, and the data; from now on with this timeout."""
        if self.timeout_seconds != timeout_seconds:
            self._socket.settimeout(timeout_seconds)
            self.timeout_seconds = timeout_seconds
        self.unsent += data
        while self.unsent:
            self.unsent = self.unsent[self._socket.send(self.unsent) :]

    def begin_again(self) -> None:
        """Gives what was asked for since the last ``forget`` once more."""
        self._at = 0

    def accepted(self) -> bool:
        """Whether the answer is a yes with no body and nothing to heed, which is then behind us.

        Most are, and most are the yes before at another time. To take one apart costs more than to
        read it.
        """
        data = self._data = self._data or self._more()
        before, after, size = self._last_yes
        if (
            len(data) == size
            and data.startswith(before)
            and data.endswith(after)
            # Nor does the date hold a line that would have to be heeded.
            and data.find(b"\r\n", len(before)) == size - len(after)
        ):
            self._data = b""
            return True
        head = data.lower()
        plain = (
            head.startswith(b"http/1.1 200 ")
            and head.find(b"\r\n\r\n") == len(head) - 4
            and b"\r\ncontent-length: 0\r\n" in head
            and b"\r\nconnection:" not in head
            and b"\r\ntransfer-encoding:" not in head
        )
        if plain:
            self._last_yes = _around_date(data, head)
            self._data = b""
        return plain

    def forget(self) -> None:
        """Drops what was asked for."""
        self._data, self._at = self._data[self._at :], 0

    def line(self) -> str:
        """The next line, without its end.

        Raises:
            ConnectionError: the stream ends before, or the line is too long.
        """
        while (end := self._data.find(b"\n", self._at)) < 0:
            if len(self._data) - self._at > _LONGEST_LINE:
                raise ConnectionError(f"the answer has a line of more than {_LONGEST_LINE} bytes")
            self._data += self._more()
        line, self._at = self._data[self._at : end], end + 1
        return line.rstrip(b"\r").decode("latin-1")

    def lines(self) -> list[str]:
        """The lines up to an empty one, right after a line.

        Raises:
            ConnectionError: the stream ends before, or they are too long.
        """
        while (end := self._data.find(b"\r\n\r\n", self._at - 2)) < 0:
            if len(self._data) - self._at > _LONGEST_HEAD:
                raise ConnectionError(f"the answer has a head of more than {_LONGEST_HEAD} bytes")
            self._data += self._more()
        lines = self._data[self._at : end].decode("latin-1")
        self._at = end + 4
        return lines.split("\r\n") if lines else []

    def exactly(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            ConnectionError: the stream ends before, or these are too many.
        """
        if size > _LARGEST_BODY:
            raise ConnectionError(f"the answer is longer than {_LARGEST_BODY} bytes")
        while len(self._data) - self._at < size:
            self._data += self._more()
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """All up to the end of the stream, or as much as a body may have."""
        while len(self._data) - self._at < _LARGEST_BODY:
            if not (more := self._socket.recv(_READ_BYTES)):
                break
            self._data += more
        return self._data[self._at :][:_LARGEST_BODY]

    def _more(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection before it answered")
        return data


_NO_YES = b"", b"", -1


def _around_date(data: bytes, head: bytes) -> tuple[bytes, bytes, int]:
    """An answer up to the value of its date, the rest, and how long it is.

    Args:
        data: the answer, a head alone.
        head: the same in lower case.
    """
    start = head.find(_DATE)
    if start < 0:
        return _NO_YES
    start += len(_DATE)
    return data[:start], data[data.find(b"\r\n", start) :], len(data)


def _read(stream: _Stream) -> tuple[Response, bool]:
    """The response, and whether the connection serves for another request."""
    status, headers = _read_head(stream)
    while 100 <= status < 200:
        status, headers = _read_head(stream)
    ends = "close" in headers.get("connection", "").lower()
    if status in (204, 304):
        return Response(status, headers, b""), not ends
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Response(status, headers, _read_chunks(stream)), not ends
    if "content-length" in headers:
        body = stream.exactly(_number(headers["content-length"], 10))
        return Response(status, headers, body), not ends
    return Response(status, headers, stream.rest()), False


def _read_head(stream: _Stream) -> tuple[int, dict[str, str]]:
    first = stream.line()
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ConnectionError(f"the answer is not HTTP/1.1: {first[:80]!r}")
    headers: dict[str, str] = {} if version != "HTTP/1.0" else {"connection": "close"}
    lines = stream.lines()
    if len(lines) > _MOST_HEADERS:
        raise ConnectionError(f"the answer has more than {_MOST_HEADERS} headers")
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return _number(rest[:3], 10), headers


def _read_chunks(stream: _Stream) -> bytes:
    body = b""
    while size := _number(stream.line().partition(";")[0].strip(), 16):
        body += stream.exactly(size)
        if len(body) > _LARGEST_BODY:
            raise ConnectionError(f"the answer is longer than {_LARGEST_BODY} bytes")
        stream.line()
    stream.lines()  # trailers
    return body


def _number(text: str, base: int) -> int:
    try:
        if text.isalnum():  # int() takes signs, underscores and spaces too
            return int(text, base)
    except ValueError:
        pass
    raise ConnectionError(f"the answer is not HTTP/1.1: {text[:80]!r}")
