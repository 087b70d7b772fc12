"""What the answer to a request over OTLP/HTTP means, and how a body is compressed.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP" (retryable response codes, throttling).
"""

import gzip
from typing import Final

RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""HTTP status codes after which the same request is to be sent again, later."""
DENIED: Final = frozenset({401, 403})
"""HTTP status codes that are about who sends: the request itself is as good as it was."""
LONGEST_WAIT_SECONDS: Final = 15.0
_GZIP_LEVEL: Final = 1  # within 5% of the default's size at a third of its time
_GZIP_MAGIC: Final = b"\x1f\x8b"  # a message begins with the tag of its first field, 0x0A


def compressed(body: bytes) -> bytes:
    """The encoded request, compressed if it is not yet."""
    return body if body.startswith(_GZIP_MAGIC) else gzip.compress(body, _GZIP_LEVEL, mtime=0)


def plain(body: bytes) -> bytes:
    """The encoded request, not compressed."""
    return gzip.decompress(body) if body.startswith(_GZIP_MAGIC) else body


def retry_after_seconds(text: str | None) -> float:
    """What ``Retry-After`` says, bounded; 0 without it."""
    # A date is allowed too, but no receiver of OTLP sends one; the backoff serves for it.
    return min(float(text), LONGEST_WAIT_SECONDS) if text and text.isdigit() else 0.0
