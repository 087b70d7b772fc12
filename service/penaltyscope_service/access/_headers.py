"""Headers, whichever transport brought them."""

from collections.abc import Mapping, Sequence

Headers = Mapping[bytes, bytes]
"""Of an HTTP request, or the metadata of a call; names in lower case."""


def first_of_each(pairs: Sequence[tuple[bytes, bytes]]) -> Headers:
    """By name; of those that come more than once, the first."""
    return dict(reversed(pairs))
