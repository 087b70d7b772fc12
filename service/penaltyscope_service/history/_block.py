"""Blocks of steps as rows of their table."""

import sqlite3
from collections.abc import Iterable
from typing import Final

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


def insert_block(
    connection: sqlite3.Connection, number: int, block: NewBlock, *, packed: bool
) -> None:
    """Adds a block; a packed one gets its rollup."""
    insert_blocks(connection, [(number, keep(block, packed=packed))], packed=packed)
    if packed:
        insert_rollup(connection, number, block.steps)


def insert_rollup(connection: sqlite3.Connection, number: int, steps: StepBlock) -> None:
    """Adds the rollup of a block."""
    rollup = encode_rollups(roll_up(steps))
    connection.execute("INSERT INTO rollup VALUES (?, ?)", (number, rollup))


def insert_blocks(
    connection: sqlite3.Connection, blocks: Iterable[tuple[int, KeptBlock]], *, packed: bool = False
) -> None:
    """Adds blocks under their numbers, without rollups."""
    _insert(connection, [_row(number, block, packed) for number, block in blocks])


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
