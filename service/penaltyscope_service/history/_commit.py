"""Records as rows that replace those with the same number."""

import sqlite3
from collections.abc import Iterable
from typing import Final

import orjson

from penaltyscope_service.history._insert import Insert
from penaltyscope_service.history._record import (
    PROCESS_COLUMNS,
    RUN_COLUMNS,
    SOURCE_COLUMNS,
    process_row,
    run_row,
    source_row,
)
from penaltyscope_service.history._rows import Changes, Incident, SourceRow


def _upsert(table: str, key: str, columns: tuple[str, ...]) -> Insert:
    update = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return Insert(
        f"{table} ({', '.join(columns)})",
        len(columns),
        f"ON CONFLICT ({key}) DO UPDATE SET {update}",
    )


_insert_runs: Final = _upsert("run", "id", RUN_COLUMNS)
_insert_processes: Final = _upsert("process", "run, rank", PROCESS_COLUMNS)
_insert_sources: Final = _upsert("source", "id", SOURCE_COLUMNS)
_insert_streams: Final = Insert("stream (id, run, rank, pipeline)", 4)
_insert_terms: Final = Insert("terms", 2)


def write_records(writer: sqlite3.Connection, changes: Changes) -> list[Incident]:
    """Writes everything but blocks; returns the incidents that are new."""
    _insert_runs(writer, map(run_row, changes.runs))
    _insert_processes(writer, map(process_row, changes.processes))
    write_sources(writer, changes.sources)
    _insert_streams(writer, changes.streams)
    _insert_terms(writer, ((row.id, orjson.dumps(row.names).decode()) for row in changes.terms))
    return [incident for incident in changes.incidents if _insert_incident(writer, incident)]


def write_sources(writer: sqlite3.Connection, sources: Iterable[SourceRow]) -> None:
    """Writes how far some sources have come."""
    _insert_sources(writer, map(source_row, sources))


def _insert_incident(writer: sqlite3.Connection, incident: Incident) -> bool:
    cursor = writer.execute("INSERT OR IGNORE INTO incident VALUES (?, ?, ?, ?, ?)", incident)
    return bool(cursor.rowcount == 1)
