"""The head of a request, known by the bytes of an earlier one on the same connection.

A client that keeps its connection sends the same head every time, but for the length of the body;
what is to be read in it was read before.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from penaltyscope_service.access import Headers

_MAX_BYTES: Final = 4_096
"""Longer heads are not remembered: there may be thousands of connections."""
_MAX_DIGITS: Final = 10
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([1-9][0-9]*)(?=\r\n)", re.IGNORECASE)
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""They say more of what follows the head than how long it is."""


@dataclass(frozen=True, slots=True)
class FamiliarHead:
    """All bytes of a head but the digits of the length."""

    before: bytes
    """What precedes the digits."""
    after: bytes
    """What follows them, the empty line included."""

    @classmethod
    def of(cls, data: bytes, headers: Headers) -> Self | None:
        """The head that ``data`` begins with, if there is nothing unusual about it.

        Args:
            data: what starts with a request, its whole head at least.
            headers: what a parser has read in that head.
        """
        head = data[: data.find(_END, 0, _MAX_BYTES) + len(_END)]
        lines = head.count(b"\r\n")
        # A parser may know other ends of lines; its head could then end earlier than this one.
        if head.count(b"\r") != lines or head.count(b"\n") != lines or head[:5] != b"POST ":
            return None
        lengths = list(_LENGTH.finditer(head))
        if [length[1] for length in lengths] != [headers.get(b"content-length")]:
            return None
        if not _UNUSUAL.isdisjoint(headers):
            return None
        return cls(head[: lengths[0].start(1)], head[lengths[0].end(1) :])

    def body(self, data: bytes, place: int) -> tuple[int, int] | None:
        """Of a request that starts there: where the body starts, and how long it is.

        ``None`` if it has another head, or one that does not end in ``data``.
        """
        if not data.startswith(self.before, place):
            return None
        start = place + len(self.before)
        end = data.find(b"\r", start, start + _MAX_DIGITS + 1)
        digits = data[start:end]
        if not digits.isdigit() or digits.startswith(b"0") or not data.startswith(self.after, end):
            return None
        return end + len(self.after), int(digits)
