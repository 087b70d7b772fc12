"""A damaged file put aside, and a good one made of what can still be read in it."""

import os
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from penaltyscope_service.history._block import insert_rollup
from penaltyscope_service.history._damage import DamagedError
from penaltyscope_service.history._readable import (
    CHECKS,
    Fields,
    decode_row,
    is_typed,
    readable_rows,
)
from penaltyscope_service.history._schema import connect, create

_KEYS: Final = {
    "run": ("id",),
    "process": ("run", "rank"),
    "stream": ("id",),
    "source": ("id",),
    "terms": ("id",),
    "incident": ("run", "rank", "time_ns", "kind"),
    "grave": ("run", "rank", "pipeline", "incarnation"),
    "block": ("id",),
}
"""Of every table with something to save; those that others refer to come first."""
_PARENTS: Final = {
    "process": {"run": "run"},
    "stream": {"run": "run"},
    "source": {"stream": "stream"},
    "incident": {"run": "run"},
    "block": {"stream": "stream", "source": "source", "terms": "terms"},
}
"""The rows that a row means nothing without, by column."""
_NONSENSE: Final = (ArithmeticError, AttributeError, DamagedError, LookupError, struct.error)
"""What reading a row raises that is not what was written, beside ValueError and TypeError."""


def put_aside(path: Path, stamp: str) -> Path:
    """Gives the file and its log a second name, which stays when the first one goes."""
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    with suppress(FileNotFoundError):
        os.link(f"{path}-wal", f"{aside}-wal")
    os.link(path, aside)
    return aside


def salvage(damaged: Path, path: Path) -> None:
    """Replaces the file in ``path`` by one with every row of ``damaged`` that can be trusted."""
    new = path.with_name(f"{path.name}.salvaged")
    new.unlink(missing_ok=True)
    with closing(connect(new)) as into, closing(_open_damaged(damaged)) as old:
        create(into)
        into.execute("BEGIN")
        for table in _KEYS:
            _copy(old, into, table)
        into.execute("COMMIT")
    Path(f"{damaged}-shm").unlink(missing_ok=True)  # made by reading
    replace(path, new)


def replace(path: Path, new: Path | None) -> None:
    """Puts ``new``, or nothing, in the place of a history."""
    # In this order: the old log must never be taken for one of the new file.
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if new is None:
        path.unlink()
    else:
        new.replace(path)


def _open_damaged(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


def _copy(old: sqlite3.Connection, into: sqlite3.Connection, table: str) -> None:
    columns = into.execute(f"PRAGMA table_info({table})").fetchall()
    names = [name for _, name, *_ in columns]
    known = {
        column: {number for (number,) in into.execute(f"SELECT id FROM {parent}")}
        for column, parent in _PARENTS.get(table, {}).items()
    }
    terms = dict(into.execute("SELECT id, names FROM terms"))
    for row in readable_rows(old, table, _KEYS[table]):
        fields = dict(zip(names, row, strict=False))  # older files have fewer columns
        if not is_typed(columns, row) or any(fields[c] not in ids for c, ids in known.items()):
            continue
        with suppress(ValueError, TypeError, *_NONSENSE):
            CHECKS.get(table, tuple)(row)
            steps = decode_row(fields, terms[fields["terms"]]) if table == "block" else None
            is_new = _insert(into, table, fields)
            if is_new and steps is not None and fields["packed"]:
                insert_rollup(into, fields["id"], steps)


def _insert(into: sqlite3.Connection, table: str, fields: Fields) -> bool:
    columns, values = ", ".join(fields), ", ".join("?" * len(fields))
    cursor = into.execute(
        f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({values})", tuple(fields.values())
    )
    return bool(cursor.rowcount == 1)
