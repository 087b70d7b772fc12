"""What comes before the records of a request: of one process, the same bytes again and again."""

from typing import Final, NamedTuple

from penaltyscope_service.decode._resource import Speaker
from penaltyscope_service.decode._step import ScopeTerms

_MOST_BYTES: Final = 8192
_MOST_KNOWN_BYTES: Final = 8 * 1024**2
_MOST_STOPS: Final = 4
"""Of requests of one length that are tried: run ids of so many lengths."""


class Opening(NamedTuple):
    """Of a request that has one resource and one scope."""

    stop: int
    """Where the first record begins."""
    speaker: Speaker
    terms: ScopeTerms


class Openings:
    """What was seen before: a cache, which changes nothing but how long things take."""

    def __init__(self) -> None:
        self._stops: dict[int, tuple[int, ...]] = {}
        # Its lengths fit those of the body, so they belong to what is known.
        self._known: dict[tuple[int, bytes], Opening] = {}
        self._known_bytes = 0

    def find(self, body: bytes) -> Opening | None:
        """That of the body, if it is known."""
        length = len(body)
        for stop in self._stops.get(length, ()):
            opening = self._known.get((length, body[:stop]))
            if opening is not None:
                return opening
        return None

    def remember(self, body: bytes, opening: Opening) -> None:
        """Knows it from now on, if it is not too long."""
        length, stop = len(body), opening.stop
        if stop > _MOST_BYTES:
            return
        if self._known_bytes + stop > _MOST_KNOWN_BYTES:
            self._known, self._stops, self._known_bytes = {}, {}, 0
        others = (other for other in self._stops.get(length, ()) if other != stop)
        self._stops[length] = (stop, *others)[:_MOST_STOPS]
        self._known[length, body[:stop]] = opening
        self._known_bytes += stop
