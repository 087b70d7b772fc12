"""What the head of a request says about its body."""

from http import HTTPStatus
from typing import Final, NamedTuple

from penaltyscope_service.access import Headers
from penaltyscope_service.decode import ContentType
from penaltyscope_service.ingest._body import ContentEncoding, too_large
from penaltyscope_service.refusal import RefusedError

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


class Head(NamedTuple):
    """How the body is encoded."""

    content_type: ContentType
    content_encoding: ContentEncoding


def read_content_type(headers: Headers) -> ContentType | None:
    """The encoding that the client speaks, without parameters; ``None`` if it is not ours."""
    value = headers.get(b"content-type", b"")
    essence = value.partition(b";")[0]
    return _CONTENT_TYPES.get(value) or _CONTENT_TYPES.get(essence.strip().lower())


def read_head(method: str, headers: Headers, content_type: ContentType | None, limit: int) -> Head:
    """Decides from the head alone whether the body may be read.

    Args:
        method: of the request.
        headers: of the request.
        content_type: from :func:`read_content_type`.
        limit: most bytes of a body.

    Raises:
        RefusedError: 405, 413 or 415.
    """
    if method != "POST":
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"method must be POST, got {method}.")
    if content_type is None:
        raise _unsupported(headers, b"content-type", "application/x-protobuf or application/json")
    encoding = _CONTENT_ENCODINGS.get(headers.get(b"content-encoding", b"").strip().lower())
    if encoding is None:
        raise _unsupported(headers, b"content-encoding", "identity, gzip or zstd")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
    return Head(content_type, encoding)


def _unsupported(headers: Headers, name: bytes, expected: str) -> RefusedError:
    got = headers.get(name, b"").decode("latin-1")
    return RefusedError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"{name.decode()} must be {expected}, got {got!r:.100}.",
    )
