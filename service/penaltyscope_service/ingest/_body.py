"""Decompresses a request's body, bounded."""

import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Literal, Protocol

from isal import isal_zlib
from isal.isal_zlib import IsalError

from penaltyscope_service.refusal import RefusedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ContentEncoding = Literal["identity", "gzip", "zstd"]

_GZIP: Final = 16 + isal_zlib.MAX_WBITS
"""Tells it that gzip's header and trailer surround the stream."""
_ZSTD: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""A window of 8 MiB, the most that a zstd content coding may ask for (RFC 9659, section 3)."""
_CHUNK_BYTES: Final = 65_536
_MAX_MEMBERS: Final = 1_024
"""Block compressors write one member per 64 KiB; thousands of tiny ones are only an attack."""


class _Stream(Protocol):
    """One member of a gzip file, or one frame of a zstd one."""

    @property
    def eof(self) -> bool:
        """Whether it ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows its end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most so many bytes, not all of them only where there are more."""


_STREAMS: Final[Mapping[ContentEncoding, Callable[[], _Stream]]] = {
    "gzip": lambda: isal_zlib.decompressobj(_GZIP),
    "zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD),
}


def decompress(body: bytes, encoding: ContentEncoding, limit: int) -> bytes:
    """The body as it was before compression, at most ``limit`` bytes.

    Raises:
        RefusedError: 400 if it is not compressed so or ends early; 413 as soon as it is too large,
            so that a bomb costs no more memory than an honest body.
    """
    if encoding == "identity":
        return body
    try:
        return _decompress(body, encoding, limit)
    except (IsalError, zstd.ZstdError) as error:  # type: ignore[misc]  # a stub names an instance
        raise _malformed(f"{encoding}: {error}") from error


def _decompress(body: bytes, encoding: ContentEncoding, limit: int) -> bytes:
    """All members of the body, one after the other (RFC 1952, section 2.2; RFC 8878, section 3)."""
    begin = _STREAMS[encoding]
    stream = begin()
    members = 1
    output: list[bytes] = []
    room = limit + 1
    # A stream copies what follows it; of a whole body that would be quadratic in its members.
    for start in range(0, len(body), _CHUNK_BYTES):
        rest = body[start : start + _CHUNK_BYTES]
        while rest:
            if stream.eof:
                stream = begin()
                members += 1
            output.append(stream.decompress(rest, room))
            room -= len(output[-1])
            if not room:
                raise too_large(limit)
            if members > _MAX_MEMBERS:
                raise _malformed(f"at most {_MAX_MEMBERS} {encoding} members, got more")
            rest = stream.unused_data
    if not stream.eof:
        raise _malformed(f"whole {encoding}, got one that ends early")
    return b"".join(output)


def _malformed(problem: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, f"body must be {problem}.")


def too_large(limit: int) -> RefusedError:
    """The refusal of a body over the limit, compressed or not."""
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"body must be at most {limit} bytes, before and after decompression.",
    )
