"""Reads parts of one stream, as they were at one moment."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._damage import is_whole, require_whole
from penaltyscope_service.history._payload import decode_columns
from penaltyscope_service.history._rollup import ROLLUP_ROWS, roll_up
from penaltyscope_service.history._rollup_bytes import decode_rollups, encode_rollups
from penaltyscope_service.history._rollup_bytes_2 import rollup_bytes_1, with_head


class BlockHead(NamedTuple):
    """A block without its steps."""

    id: int
    source: int
    terms: tuple[str, ...]
    packed: bool
    rows: int
    first_step: int
    last_step: int
    nonfinite_rows: int


class Reader:
    """Valid within the context that gave it."""

    def __init__(
        self, connection: sqlite3.Connection, terms: Mapping[int, tuple[str, ...]]
    ) -> None:
        self._connection = connection
        self._terms = terms

    def heads(self, stream: int, from_step: int, to_step: int) -> list[BlockHead]:
        """The blocks that have steps in a range (both ends included), in order of arrival."""
        rows = self._connection.execute(
            "SELECT id, source, terms, packed, rows, first_step, last_step, nonfinite_rows "
            "FROM block WHERE stream = ? AND last_step >= ? AND first_step <= ?",
            (stream, from_step, to_step),
        )
        return [BlockHead(r[0], r[1], self._terms[r[2]], bool(r[3]), *r[4:]) for r in sorted(rows)]

    def columns(self, head: BlockHead, names: Collection[str]) -> dict[str, NDArray[Any]]:
        """At least the named columns of a block.

        Raises:
            DamagedError: if the block is not what was written.
        """
        payload, checksum = self._connection.execute(
            "SELECT payload, checksum FROM block WHERE id = ?", (head.id,)
        ).fetchone()
        require_whole(payload, checksum)
        return decode_columns(payload, names, terms=len(head.terms), rows=head.rows)

    def rollups(self, heads: Sequence[BlockHead], columns: Sequence[int]) -> NDArray[np.void]:
        """Rollups of packed blocks with the same terms, all in one, as ``roll_up`` made them.

        One that is not what was written is made anew of its block.

        Args:
            heads: at least one, in order of arrival.
            columns: which of them, by the places that ``rollup_column`` tells.

        Raises:
            DamagedError: if the block of such a one is not what was written, either.
        """
        by_block = {head.id: head for head in heads}
        width = 3 + 3 * len(heads[0].terms)
        rows = self._connection.execute(
            "SELECT block, rows, checksum FROM rollup WHERE block BETWEEN ? AND ? ORDER BY block",
            (heads[0].id, heads[-1].id),
        ).fetchall()
        first_version = rollup_bytes_1(width)
        data = []
        for block, stored, checksum in rows:
            head = by_block.get(block)
            if head is None:
                continue
            rolled = stored if is_whole(stored, checksum) else self._roll_up(head)
            stretches = -(-head.rows // ROLLUP_ROWS)
            data.append(with_head(rolled) if len(rolled) == first_version * stretches else rolled)
        return decode_rollups(data, width, columns)

    def _roll_up(self, head: BlockHead) -> bytes:
        columns = self.columns(head, COLUMNS)
        steps = StepBlock(pipeline="", incarnation="", terms=head.terms, **columns)
        return encode_rollups(roll_up(steps))
