"""Reads parts of one stream, as they were at one moment."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._payload import decode_columns
from penaltyscope_service.history._rollup import ROLLUP_ROWS
from penaltyscope_service.history._rollup_bytes import decode_rollups
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
        """At least the named columns of a block."""
        (payload,) = self._connection.execute(
            "SELECT payload FROM block WHERE id = ?", (head.id,)
        ).fetchone()
        return decode_columns(payload, names, terms=len(head.terms), rows=head.rows)

    def rollups(self, heads: Sequence[BlockHead], columns: Sequence[int]) -> NDArray[np.void]:
        """Rollups of packed blocks with the same terms, all in one, as ``roll_up`` made them.

        Args:
            heads: at least one, in order of arrival.
            columns: which of them, by the places that ``rollup_column`` tells.
        """
        stretches = {head.id: -(-head.rows // ROLLUP_ROWS) for head in heads}
        width = 3 + 3 * len(heads[0].terms)
        rows = self._connection.execute(
            "SELECT block, rows FROM rollup WHERE block BETWEEN ? AND ? ORDER BY block",
            (heads[0].id, heads[-1].id),
        )
        first_version = rollup_bytes_1(width)
        data = [
            with_head(d) if len(d) == first_version * stretches[block] else d
            for block, d in rows
            if block in stretches
        ]
        return decode_rollups(data, width, columns)
