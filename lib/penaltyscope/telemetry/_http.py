"""One kept-alive HTTP/1.1 connection that posts bodies to one URL.

General clients build and parse headers anew for every request, which costs many times what a whole
batch of steps costs to encode. Here the head of the request is made once, and of the response only
what a sender needs is read. Reference: RFC 9112.
"""

import http.client
import select
import ssl
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

from penaltyscope.telemetry._environment import Destination

_LONGEST_LINE = 1 << 16
_MOST_HEADERS = 200
_LARGEST_BODY = 1 << 20


class Response(NamedTuple):
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


class Connection:
    """Opened by the first post, and again when the server has closed it; used by one thread.

    Raises:
        ValueError: a header's name or value holds a line break or is not ASCII.
    """

    def __init__(self, destination: Destination, headers: Mapping[str, str]) -> None:
        self._destination = destination
        self._url = urlsplit(destination.url)
        self._head = _head(destination.url, headers)
        self._connection: http.client.HTTPConnection | None = None
        self._reader: BinaryIO | None = None

    def post(self, body: bytes, timeout_seconds: float) -> Response:
        """Sends the body and waits for the answer.

        Raises:
            OSError: the server was not reached, or answered something else than HTTP.
        """
        # Between two posts the server may have closed the connection, as idle ones are.
        if self._connection is not None and _readable(self._connection):
            self.close()
        reused = self._connection is not None
        try:
            return self._exchange(body, timeout_seconds)
        except ConnectionError:
            if not reused:
                raise
        return self._exchange(body, timeout_seconds)

    def close(self) -> None:
        """Closes the connection; the next post opens a new one."""
        if self._reader is not None:
            self._reader.close()
        if self._connection is not None:
            self._connection.close()
        self._reader = self._connection = None

    def _exchange(self, body: bytes, timeout_seconds: float) -> Response:
        try:
            if self._connection is None or self._reader is None:
                self._connection = self._open(timeout_seconds)
                self._reader = self._connection.sock.makefile("rb")
            self._connection.sock.settimeout(timeout_seconds)
            self._connection.sock.sendall(self._head % len(body) + body)
            response, reusable = _read(self._reader)
        except BaseException:
            self.close()
            raise
        if not reusable:
            self.close()
        return response

    def _open(self, timeout_seconds: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
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


def _readable(connection: http.client.HTTPConnection) -> bool:
    """Whether bytes, or the end of the stream, have arrived that nobody asked for."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([connection.sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(reader: BinaryIO) -> tuple[Response, bool]:
    """The response, and whether the connection serves for another request."""
    status, headers = _read_head(reader)
    while 100 <= status < 200:
        status, headers = _read_head(reader)
    ends = "close" in headers.get("connection", "").lower()
    if status in (204, 304):
        return Response(status, headers, b""), not ends
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Response(status, headers, _read_chunks(reader)), not ends
    if "content-length" in headers:
        body = _read_exactly(reader, _number(headers["content-length"], 10))
        return Response(status, headers, body), not ends
    return Response(status, headers, reader.read(_LARGEST_BODY)), False


def _read_head(reader: BinaryIO) -> tuple[int, dict[str, str]]:
    first = _read_line(reader)
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ConnectionError(f"the answer is not HTTP/1.1: {first[:80]!r}")
    headers: dict[str, str] = {} if version != "HTTP/1.0" else {"connection": "close"}
    for _ in range(_MOST_HEADERS):
        line = _read_line(reader)
        if not line:
            return _number(rest[:3], 10), headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ConnectionError(f"the answer has more than {_MOST_HEADERS} headers")


def _read_line(reader: BinaryIO) -> str:
    line = reader.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the server closed the connection before it answered")
    return line.decode("latin-1").rstrip("\r\n")


def _read_chunks(reader: BinaryIO) -> bytes:
    body = b""
    while size := _number(_read_line(reader).partition(";")[0].strip(), 16):
        body += _read_exactly(reader, size)
        if len(body) > _LARGEST_BODY:
            raise ConnectionError(f"the answer is longer than {_LARGEST_BODY} bytes")
        _read_line(reader)
    while _read_line(reader):  # trailers
        pass
    return body


def _read_exactly(reader: BinaryIO, size: int) -> bytes:
    if size > _LARGEST_BODY:
        raise ConnectionError(f"the answer is longer than {_LARGEST_BODY} bytes")
    body = reader.read(size)
    if len(body) < size:
        raise ConnectionResetError("the server closed the connection before it answered")
    return body


def _number(text: str, base: int) -> int:
    try:
        if text.isalnum():  # int() takes signs, underscores and spaces too
            return int(text, base)
    except ValueError:
        pass
    raise ConnectionError(f"the answer is not HTTP/1.1: {text[:80]!r}")
