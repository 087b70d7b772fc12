"""Blocks of steps as rows of their table."""

import sqlite3
from collections.abc import Iterable
from typing import Final
from zlib import crc32

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import NONFINITE, StepBlock
from penaltyscope_service.history._insert import Insert
from penaltyscope_service.history._payload import encode_block
from penaltyscope_service.history._rollup import roll_up
from penaltyscope_service.history._rollup_bytes import encode_rollups
from penaltyscope_service.history._rows import NewBlock
from penaltyscope_service.kernel import kernel

BLOCK_ROWS: Final = 1024
"""Evaluations in a packed block, at most."""

_insert: Final = Insert("block", 12)
_NONFINITE: Final = int(NONFINITE)


def insert_block(
    connection: sqlite3.Connection, number: int, block: NewBlock, *, packed: bool
) -> None:
    """Adds a block; a packed one gets its rollup."""
    insert_blocks(connection, [(number, block)], packed=packed)
    if packed:
        insert_rollup(connection, number, block.steps)


def insert_rollup(connection: sqlite3.Connection, number: int, steps: StepBlock) -> None:
    """Adds the rollup of a block."""
    rollup = encode_rollups(roll_up(steps))
    connection.execute("INSERT INTO rollup VALUES (?, ?)", (number, rollup))


def insert_blocks(
    connection: sqlite3.Connection, blocks: Iterable[tuple[int, NewBlock]], *, packed: bool = False
) -> None:
    """Adds blocks under their numbers, without rollups."""
    _insert(connection, [_row(number, block, packed) for number, block in blocks])


def _row(number: int, block: NewBlock, packed: bool) -> tuple[object, ...]:
    steps = block.steps
    payload = encode_block(steps, packed=packed)
    return (
        number,
        *block.place,
        packed,
        len(steps),
        *_summary(steps.step, steps.has_base, steps.base, steps.flags),
        block.received_at,
        payload,
        crc32(payload),
    )


@kernel(
    types.UniTuple(types.int64, 3)(
        types.Array(types.int64, 1, "A", readonly=True),
        types.Array(types.boolean, 1, "A", readonly=True),
        types.Array(types.float64, 1, "A", readonly=True),
        types.Array(types.int32, 2, "A", readonly=True),
    )
)
def _summary(
    step: NDArray[np.int64],
    has_base: NDArray[np.bool_],
    base: NDArray[np.float64],
    flags: NDArray[np.int32],
) -> tuple[int, int, int]:
    """The least and the greatest step, and how many evaluations are not finite."""
    least = greatest = step[0]
    nonfinite = 0
    for row in range(len(step)):
        least, greatest = min(least, step[row]), max(greatest, step[row])
        bad = 0
        for term in range(flags.shape[1]):
            bad |= flags[row, term]
        if bad & _NONFINITE or (has_base[row] and not np.isfinite(base[row])):
            nonfinite += 1
    return least, greatest, nonfinite
