"""Blocks of steps as rows of their table."""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from isal.isal_zlib import crc32

from penaltyscope_events import StepBlock
from penaltyscope_service.history._insert import Insert
from penaltyscope_service.history._kept import keep
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import encode_rollups
from penaltyscope_service.history._rows import KeptBlock, NewBlock

BLOCK_ROWS: Final = 1024
"""Evaluations in a packed block, at most."""

_insert: Final = Insert("block", 12)


class Piece(NamedTuple):
    """What is written of a block that was packed, or is left over."""

    block: KeptBlock
    rollup: bytes | None
    """Of a packed one."""


def cut(block: NewBlock, *, final: bool) -> list[Piece]:
    """The block in packed pieces of ``BLOCK_ROWS``.

    Args:
        block: the block, of any length.
        final: whether the last piece is packed too if it is smaller.
    """
    pieces = []
    for start in range(0, len(block.steps), BLOCK_ROWS):
        steps = block.steps
        if len(steps) > BLOCK_ROWS:
            steps = steps.take(slice(start, start + BLOCK_ROWS))
        packed = final or len(steps) == BLOCK_ROWS
        kept = keep(block._replace(steps=steps), packed=packed)
        pieces.append(Piece(kept, encode_rollups(roll_up(steps)) if packed else None))
    return pieces


def insert_piece(connection: sqlite3.Connection, number: int, piece: Piece) -> None:
    """Adds a piece under its number."""
    insert_blocks(connection, [(number, piece.block)], packed=piece.rollup is not None)
    if piece.rollup is not None:
        _insert_rollup(connection, number, piece.rollup)


def insert_rollup(connection: sqlite3.Connection, number: int, steps: StepBlock) -> None:
    """Adds the rollup of a block that is there."""
    _insert_rollup(connection, number, encode_rollups(roll_up(steps)))


def insert_blocks(
    connection: sqlite3.Connection, blocks: Iterable[tuple[int, KeptBlock]], *, packed: bool = False
) -> None:
    """Adds blocks under their numbers, without rollups."""
    _insert(connection, [_row(number, block, packed) for number, block in blocks])


def _insert_rollup(connection: sqlite3.Connection, number: int, rollup: bytes) -> None:
    connection.execute("INSERT INTO rollup VALUES (?, ?, ?)", (number, rollup, crc32(rollup)))


def _row(number: int, block: KeptBlock, packed: bool) -> tuple[object, ...]:
    return (
        number,
        *block.place,
        packed,
        len(block.step),
        block.first_step,
        block.last_step,
        block.nonfinite_rows,
        block.received_at,
        block.payload,
        crc32(block.payload),
    )
