"""Small blocks made into large ones: a million steps are a thousand blocks, not one per request."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from penaltyscope_service.history._block import Piece
from penaltyscope_service.history._damage import DamagedError, require_whole
from penaltyscope_service.history._payload import decode_block
from penaltyscope_service.history._rows import NewBlock, Place, SourceRow
from penaltyscope_service.joining import join

_LOOSE: Final = "FROM block WHERE stream = ? AND packed = 0 AND source = ? AND terms = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What is to be packed of one stream."""

    stream: int
    """Its number."""
    places: Mapping[Place, bool]
    """Where to look, and whether no more steps are expected there, so that what is left after
    cutting is packed too."""
    aggregate: bytes
    """Of all blocks of the stream; from now on only newer ones need to be added."""
    sources: Sequence[SourceRow]
    """Of these blocks: from now on the blocks do not say any more how far they have come."""
    known: Mapping[Place, Sequence[Piece]] = field(default_factory=dict)
    """What becomes of all that lies at a place, where that need not be read."""


def read_loose(
    connection: sqlite3.Connection, place: Place, terms: tuple[str, ...]
) -> NewBlock | None:
    """All small blocks of a place, as one without its names.

    Raises:
        DamagedError: if one of them is not what was written.
    """
    rows = connection.execute(
        f"SELECT rows, received_at, payload, checksum {_LOOSE} ORDER BY id", _key(place)
    ).fetchall()
    if not rows:
        return None
    for _, _, payload, checksum in rows:
        require_whole(payload, checksum)
    try:
        blocks = [
            decode_block(payload, pipeline="", incarnation="", terms=terms, rows=count)
            for count, _, payload, _ in rows
        ]
    except ValueError as error:
        raise DamagedError(str(error)) from error
    return NewBlock(place, max(received_at for _, received_at, _, _ in rows), join(blocks))


def delete_loose(connection: sqlite3.Connection, place: Place) -> None:
    """Takes all small blocks of a place out of the table."""
    connection.execute(f"DELETE {_LOOSE}", _key(place))


def _key(place: Place) -> tuple[int, int, int]:
    return place.stream, place.source, place.terms
