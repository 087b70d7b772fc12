"""Blocks of steps as rows of their table."""

import sqlite3
from typing import Final
from zlib import crc32

from penaltyscope_events import StepBlock
from penaltyscope_service.history._payload import encode_block
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rows import NewBlock

BLOCK_ROWS: Final = 1024
"""Evaluations in a packed block, at most."""

_INSERT: Final = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def insert_block(
    connection: sqlite3.Connection, number: int, block: NewBlock, *, packed: bool
) -> None:
    """Adds a block; a packed one gets its rollup."""
    steps = block.steps
    payload = encode_block(steps, packed=packed)
    connection.execute(
        _INSERT,
        (
            number,
            *block.place,
            packed,
            len(steps),
            int(steps.step.min()),
            int(steps.step.max()),
            int(steps.nonfinite.sum()),
            block.received_at,
            payload,
            crc32(payload),
        ),
    )
    if packed:
        insert_rollup(connection, number, steps)


def insert_rollup(connection: sqlite3.Connection, number: int, steps: StepBlock) -> None:
    """Adds the rollup of a block."""
    connection.execute("INSERT INTO rollup VALUES (?, ?)", (number, roll_up(steps).tobytes()))
