"""Records as rows that replace those with the same number."""

import sqlite3
from typing import Final

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


def _upsert(table: str, key: str, columns: tuple[str, ...]) -> str:
    values = ", ".join("?" * len(columns))
    update = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {update}"
    )


_RUNS: Final = _upsert("run", "id", RUN_COLUMNS)
_PROCESSES: Final = _upsert("process", "run, rank", PROCESS_COLUMNS)
_SOURCES: Final = _upsert("source", "id", SOURCE_COLUMNS)


def write_records(writer: sqlite3.Connection, changes: Changes) -> list[Incident]:
    """Writes everything but blocks; returns the incidents that are new."""
    writer.executemany(_RUNS, map(run_row, changes.runs))
    writer.executemany(_PROCESSES, map(process_row, changes.processes))
    writer.executemany(_SOURCES, map(source_row, changes.sources))
    writer.executemany(
        "INSERT INTO stream (id, run, rank, pipeline) VALUES (?, ?, ?, ?)", changes.streams
    )
    writer.executemany(
        "INSERT INTO terms VALUES (?, ?)",
        ((row.id, orjson.dumps(row.names).decode()) for row in changes.terms),
    )
    return [incident for incident in changes.incidents if _insert_incident(writer, incident)]


def _insert_incident(writer: sqlite3.Connection, incident: Incident) -> bool:
    cursor = writer.execute("INSERT OR IGNORE INTO incident VALUES (?, ?, ?, ?, ?)", incident)
    return bool(cursor.rowcount == 1)
