"""Asks a server, with a token or without."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import orjson
import urllib3

_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 4 * 1024**2

Response = urllib3.BaseHTTPResponse


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    date: str
    """As the header has it."""
    body: bytes

    def json(self) -> Any:  # noqa: ANN401  # whatever was said
        """Raises ValueError where it is not JSON."""
        return orjson.loads(self.body)


class Visit:
    """A server, and what it takes to be heard there."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        certificate: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=_TIMEOUT_SECONDS,
            ca_certs=certificate,
            cert_file=client_certificate,
            key_file=client_key,
        )

    @property
    def parts(self) -> SplitResult:
        """Of the address."""
        return urlsplit(self.url)

    def get(self, path: str, *, token: str | None = None) -> Answer:
        """Raises urllib3's HTTPError where nobody answers."""
        return self._ask("GET", path, b"", _authorization(token))

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """As :meth:`get`, with the token."""
        headers = {"content-type": content_type} | _authorization(self.token)
        return self._ask("POST", path, body, headers)

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        response = self._pool.request(
            method,
            self.url + path,
            body=body,
            headers=headers,
            redirect=False,
            preload_content=False,
        )
        try:
            content = response.read(_MOST_BYTES, decode_content=True)
        finally:
            response.release_conn()
        return Answer(response.status, response.headers.get("date", ""), content)


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}
