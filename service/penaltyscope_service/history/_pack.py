"""Small blocks made into large ones: a million steps are a thousand blocks, not one per request."""

import sqlite3
from collections.abc import Iterator

from penaltyscope_service.history._block import BLOCK_ROWS
from penaltyscope_service.history._damage import require_whole
from penaltyscope_service.history._payload import decode_block
from penaltyscope_service.history._rows import NewBlock, Place
from penaltyscope_service.joining import join


def take_loose(
    connection: sqlite3.Connection, place: Place, terms: tuple[str, ...]
) -> NewBlock | None:
    """Takes all small blocks of a place out of the table, as one without its names."""
    where = "WHERE stream = ? AND packed = 0 AND source = ? AND terms = ?"
    key = (place.stream, place.source, place.terms)
    rows = connection.execute(
        f"SELECT rows, received_at, payload, checksum FROM block {where} ORDER BY id", key
    ).fetchall()
    if not rows:
        return None
    for _, _, payload, checksum in rows:
        require_whole(payload, checksum)
    connection.execute(f"DELETE FROM block {where}", key)
    blocks = [
        decode_block(payload, pipeline="", incarnation="", terms=terms, rows=count)
        for count, _, payload, _ in rows
    ]
    return NewBlock(place, max(received_at for _, received_at, _, _ in rows), join(blocks))


def cut(block: NewBlock) -> Iterator[NewBlock]:
    """The block in pieces of ``BLOCK_ROWS``, the last one perhaps smaller."""
    for start in range(0, len(block.steps), BLOCK_ROWS):
        yield block._replace(steps=block.steps.take(slice(start, start + BLOCK_ROWS)))
