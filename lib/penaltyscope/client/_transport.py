"""GET requests to one service, over connections that are kept for the next one."""

import http.client
import ssl
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from penaltyscope.client._errors import UnreachableError

_MOST_IDLE: Final = 8
_PIECE_BYTES: Final = 1 << 18


class Answer:
    """The head of an answer, and the way to its body."""

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self.status = response.status
        self.retry_after = response.headers.get("retry-after")
        self._response = response
        self._url = url

    def read(self) -> bytes:
        """The whole body.

        Raises:
            UnreachableError: it ends too early.
        """
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            UnreachableError: it ends too early.
        """
        try:
            while piece := self._response.read(_PIECE_BYTES):
                yield piece
            # Only a body in chunks says by itself that it ends too early.
            if self._response.length:
                raise http.client.IncompleteRead(b"", self._response.length)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._url, error) from error


class Transport:
    """May be used by several threads: each request has a connection to itself.

    Raises:
        ValueError: ``url`` is none, or the token could not be a header.
        OSError: a file of certificates cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        timeout_seconds: float,
        ca_file: str | None,
        client_certificate_file: str | None,
        client_key_file: str | None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be an http:// or https:// URL, got {url!r}.")
        if not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds must be positive, got {timeout_seconds}.")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("token must be printable ASCII.")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca_file)
            if client_certificate_file is not None:
                self._context.load_cert_chain(client_certificate_file, client_key_file)
        self._idle: deque[http.client.HTTPConnection] = deque()

    @contextmanager
    def get(self, target: str) -> Iterator[Answer]:
        """The answer to one request, to be read within the block.

        Raises:
            UnreachableError: there is none.
        """
        connection, response = self._exchange(target)
        try:
            yield Answer(response, self._url)
        except BaseException:
            connection.close()
            raise
        if response.isclosed() and not response.will_close and len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Closes the connections that were kept."""
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, target: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._ask(self._open(), target)
        try:
            return self._ask(connection, target)
        except UnreachableError as error:
            # The server may have closed it while nobody looked; asking twice changes nothing.
            if isinstance(error.__cause__, TimeoutError):
                raise
        return self._ask(self._open(), target)

    def _ask(
        self, connection: http.client.HTTPConnection, target: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        try:
            connection.request("GET", self._prefix + target, headers=self._headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _unreachable(self._url, error) from error

    def _open(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_seconds, context=self._context
        )


def _unreachable(url: str, error: Exception) -> UnreachableError:
    return UnreachableError(f"{url}: {type(error).__name__}: {error}")
