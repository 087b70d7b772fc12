"""The content codings that a client may use."""

import gzip
import sys
from collections.abc import Callable, Mapping
from typing import Final

from penaltyscope_service.ingest._body import ContentEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: Final[Mapping[ContentEncoding, Callable[[bytes], bytes]]] = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "zstd": zstd.compress,
}


def zstd_frame(body: bytes, *, checksum: bool = False, window_log: int = 20) -> bytes:
    """A frame that does not tell the size of its content."""
    options: dict[int, int] = {
        zstd.CompressionParameter.checksum_flag: int(checksum),
        zstd.CompressionParameter.window_log: window_log,
    }
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(body, compressor.FLUSH_BLOCK) + compressor.flush()
