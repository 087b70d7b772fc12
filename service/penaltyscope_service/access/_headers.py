"""Headers, whichever transport brought them."""

from collections.abc import Sequence

Headers = Sequence[tuple[bytes, bytes]]
"""Of an HTTP request, or the metadata of a call; names in lower case."""


def find(headers: Headers, name: bytes) -> bytes:
    """The first value of a header; empty where there is none."""
    return next((value for key, value in headers if key == name), b"")
