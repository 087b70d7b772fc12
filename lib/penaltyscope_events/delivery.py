"""How a request is posted over OTLP/HTTP, and what its answer means.

Reference: OpenTelemetry protocol specification, "OTLP/HTTP" (retryable response codes, throttling).
"""

from typing import Final

RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""HTTP status codes after which the same request is to be sent again, later."""
LONGEST_WAIT_SECONDS: Final = 15.0


def request_headers(body: bytes) -> dict[str, str]:
    """The headers that describe an encoded request, compressed or not."""
    headers = {"content-type": "application/x-protobuf"}
    # A message begins with the tag of its first field, 0x0A: no number of gzip's.
    return headers | {"content-encoding": "gzip"} if body[:2] == b"\x1f\x8b" else headers


def retry_after_seconds(text: str | None) -> float:
    """What ``Retry-After`` says, bounded; 0 without it."""
    # A date is allowed too, but no receiver of OTLP sends one; the backoff serves for it.
    return min(float(text), LONGEST_WAIT_SECONDS) if text and text.isdigit() else 0.0
