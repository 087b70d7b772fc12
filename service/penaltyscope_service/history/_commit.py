"""Records as rows that replace those with the same number."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import orjson

from penaltyscope_service.history._record import (
    PROCESS_COLUMNS,
    RUN_COLUMNS,
    SOURCE_COLUMNS,
    process_row,
    run_row,
    source_row,
)
from penaltyscope_service.history._rows import Changes, Incident


def write_records(writer: sqlite3.Connection, changes: Changes) -> list[Incident]:
    """Writes everything but blocks; returns the incidents that are new."""
    _upsert(writer, "run", RUN_COLUMNS, map(run_row, changes.runs))
    _upsert(writer, "process", PROCESS_COLUMNS, map(process_row, changes.processes))
    _upsert(writer, "source", SOURCE_COLUMNS, map(source_row, changes.sources))
    writer.executemany(
        "INSERT INTO stream (id, run, rank, pipeline) VALUES (?, ?, ?, ?)", changes.streams
    )
    writer.executemany(
        "INSERT INTO terms VALUES (?, ?)",
        ((row.id, orjson.dumps(row.names).decode()) for row in changes.terms),
    )
    return [incident for incident in changes.incidents if _insert_incident(writer, incident)]


def _upsert(
    writer: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    key = "run, rank" if table == "process" else "id"
    values = ", ".join("?" * len(columns))
    update = ", ".join(f"{column} = excluded.{column}" for column in columns)
    writer.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {update}",
        rows,
    )


def _insert_incident(writer: sqlite3.Connection, incident: Incident) -> bool:
    cursor = writer.execute("INSERT OR IGNORE INTO incident VALUES (?, ?, ?, ?, ?)", incident)
    return bool(cursor.rowcount == 1)
