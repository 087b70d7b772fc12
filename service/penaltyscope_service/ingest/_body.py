"""Reads a request's body and decompresses it, both bounded."""

from http import HTTPStatus
from typing import Final, Literal

from isal import isal_zlib
from isal.isal_zlib import IsalError
from starlette.types import Receive

from penaltyscope_service.ingest._refusal import RefusedError

ContentEncoding = Literal["identity", "gzip"]

_GZIP: Final = 16 + isal_zlib.MAX_WBITS
"""Tells it that gzip's header and trailer surround the stream."""
_CHUNK_BYTES: Final = 65_536
_MAX_MEMBERS: Final = 1_024
"""Block compressors write one member per 64 KiB; thousands of tiny ones are only an attack."""


class ClientGoneError(Exception):
    """The client hung up in the middle of its request: nobody is left to answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The body as it was sent, at most ``limit`` bytes.

    Raises:
        ClientGoneError: if the client disconnects first.
        RefusedError: 413, as soon as the body is too large.
    """
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
        if size > limit:
            raise too_large(limit)
    return b"".join(chunks)


def decompress(body: bytes, encoding: ContentEncoding, limit: int) -> bytes:
    """The body as it was before compression, at most ``limit`` bytes.

    Raises:
        RefusedError: 400 if it is not gzip or ends early; 413 as soon as it is too large, so that
            a bomb costs no more memory than an honest body.
    """
    if encoding == "identity":
        return body
    try:
        return _gunzip(body, limit)
    except IsalError as error:  # type: ignore[misc]  # its stub names an instance
        raise _malformed(f"gzip: {error}") from error


def _gunzip(body: bytes, limit: int) -> bytes:
    """All members of a gzip file, one after the other (RFC 1952, section 2.2)."""
    stream = isal_zlib.decompressobj(_GZIP)
    members = 1
    output: list[bytes] = []
    room = limit + 1
    # It copies what follows a member; of a whole body that would be quadratic in its members.
    for start in range(0, len(body), _CHUNK_BYTES):
        rest = body[start : start + _CHUNK_BYTES]
        while rest:
            if stream.eof:
                stream = isal_zlib.decompressobj(_GZIP)
                members += 1
            output.append(stream.decompress(rest, room))
            room -= len(output[-1])
            if not room:
                raise too_large(limit)
            if members > _MAX_MEMBERS:
                raise _malformed(f"at most {_MAX_MEMBERS} gzip members, got more")
            rest = stream.unused_data
    if not stream.eof:
        raise _malformed("whole gzip, got one that ends early")
    return b"".join(output)


def _malformed(problem: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, f"body must be {problem}.")


def too_large(limit: int) -> RefusedError:
    """The refusal of a body over the limit, compressed or not."""
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"body must be at most {limit} bytes, before and after decompression.",
    )
