"""The rows of a damaged table that can still be read and are what was written."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

from penaltyscope_events import StepBlock
from penaltyscope_service.history._damage import require_whole
from penaltyscope_service.history._payload import decode_block
from penaltyscope_service.history._record import read_process, read_run, read_source

Row = tuple[Any, ...]
Fields = Mapping[str, Any]

_TYPES: Final = {"INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes}


def readable_rows(connection: sqlite3.Connection, table: str, key: Sequence[str]) -> Iterator[Row]:
    """Every row that can be read, from the first one up to damage, then from the last one down.

    Args:
        connection: of the damaged file.
        table: its name.
        key: the table's first columns. Where it is one number, those between are tried too.
    """
    order = ", ".join(key)
    ends: list[Row] = []
    for direction in ("ASC", "DESC"):
        last: Row = ()
        try:
            for row in connection.execute(
                f"SELECT * FROM {table} ORDER BY {', '.join(f'{k} {direction}' for k in key)}"
            ):
                if ends and row[: len(key)] <= ends[0]:
                    return
                last = row[: len(key)]
                yield row
            return
        except sqlite3.DatabaseError:
            ends.append(last)
    first, final = ends
    if first and final and len(key) == 1:
        for number in range(first[0] + 1, final[0]):
            with suppress(sqlite3.DatabaseError):
                yield from connection.execute(f"SELECT * FROM {table} WHERE {order} = ?", (number,))


def is_typed(columns: Sequence[Row], row: Row) -> bool:
    """Whether the values are of the types of their columns, as ``PRAGMA table_info`` tells them."""
    for (_, _, declared, required, *_), value in zip(columns, row, strict=False):
        if value is None:
            if required:
                return False
        elif not isinstance(value, _TYPES[declared]):
            return False
    return True


def decode_row(fields: Fields, names: str) -> StepBlock:
    """The steps of a row of ``block``.

    Args:
        fields: the row.
        names: JSON, its terms.

    Raises:
        ValueError: if they are not those that were written.
    """
    require_whole(fields["payload"], fields.get("checksum"))
    terms = tuple(orjson.loads(names))
    return decode_block(
        fields["payload"], pipeline="", incarnation="", terms=terms, rows=fields["rows"]
    )


def _require_names(row: Row) -> None:
    names = orjson.loads(row[1])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise TypeError(f"names must be a list of strings, got {names!r}.")


CHECKS: Final[Mapping[str, Callable[[Row], object]]] = {
    "run": lambda row: read_run(row, ()),
    "process": read_process,
    "source": read_source,
    "terms": _require_names,
}
"""What raises where a row of a table means nothing."""
