"""What the head of a request says about its body."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.types import Scope

from penaltyscope_service.decode import ContentType
from penaltyscope_service.ingest._body import ContentEncoding, too_large
from penaltyscope_service.ingest._refusal import RefusedError

_CONTENT_TYPES: Final[dict[bytes, ContentType]] = {
    b"application/x-protobuf": "application/x-protobuf",
    b"application/json": "application/json",
}
_CONTENT_ENCODINGS: Final[dict[bytes, ContentEncoding]] = {
    b"": "identity",
    b"identity": "identity",
    b"gzip": "gzip",
    b"zstd": "zstd",
}


@dataclass(frozen=True, slots=True)
class Head:
    """How the body is encoded."""

    content_type: ContentType
    content_encoding: ContentEncoding


def read_content_type(scope: Scope) -> ContentType | None:
    """The encoding that the client speaks, without parameters; ``None`` if it is not ours."""
    essence = _header(scope, b"content-type").partition(b";")[0]
    return _CONTENT_TYPES.get(essence.strip().lower())


def read_head(scope: Scope, limit: int) -> Head:
    """Decides from the head alone whether the body may be read.

    Raises:
        RefusedError: 405, 413 or 415.
    """
    if scope["method"] != "POST":
        raise RefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED, f"method must be POST, got {scope['method']}."
        )
    content_type = read_content_type(scope)
    if content_type is None:
        raise _unsupported(scope, b"content-type", "application/x-protobuf or application/json")
    encoding = _CONTENT_ENCODINGS.get(_header(scope, b"content-encoding").strip().lower())
    if encoding is None:
        raise _unsupported(scope, b"content-encoding", "identity, gzip or zstd")
    length = _header(scope, b"content-length")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
    return Head(content_type, encoding)


def _header(scope: Scope, name: bytes) -> bytes:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), b"")


def _unsupported(scope: Scope, name: bytes, expected: str) -> RefusedError:
    got = _header(scope, name).decode("latin-1")
    return RefusedError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"{name.decode()} must be {expected}, got {got!r:.100}.",
    )
