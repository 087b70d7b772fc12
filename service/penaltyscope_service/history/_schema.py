"""The tables of the history's file, and how it is opened."""

import sqlite3
from pathlib import Path
from typing import Final, Literal

Synchronous = Literal["NORMAL", "FULL"]

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x50534350  # "PSCP", so that `file` and we know whose file it is
_BUSY_SECONDS: Final = 10.0

_TABLES: Final = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    started_at REAL NOT NULL,
    received_at REAL NOT NULL,
    reopened_at REAL NOT NULL,
    ended_at REAL,
    attempt INTEGER NOT NULL,
    world_size INTEGER NOT NULL,
    details TEXT NOT NULL  -- JSON: tags, present, endings, failure
);
CREATE TABLE process (
    run INTEGER NOT NULL REFERENCES run,
    rank INTEGER NOT NULL,
    received_at REAL NOT NULL,
    start_ns INTEGER NOT NULL,
    health_ns INTEGER NOT NULL,
    dropped_before INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    overhead_seconds REAL,
    duplicates INTEGER NOT NULL,
    PRIMARY KEY (run, rank)
) WITHOUT ROWID;
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES run,
    rank INTEGER NOT NULL,
    pipeline TEXT NOT NULL,
    through INTEGER NOT NULL DEFAULT 0,  -- the last block that the aggregate contains
    aggregate BLOB
);
CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream,
    incarnation TEXT NOT NULL,
    high INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    gaps TEXT  -- JSON: [[start, stop, since], ...]
);
CREATE TABLE terms (
    id INTEGER PRIMARY KEY,
    names TEXT NOT NULL  -- JSON
);
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream,
    source INTEGER NOT NULL REFERENCES source,
    terms INTEGER NOT NULL REFERENCES terms,
    packed INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    nonfinite_rows INTEGER NOT NULL,
    received_at REAL NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX block_of_stream ON block (stream, packed, source, terms);
CREATE TABLE rollup (
    block INTEGER PRIMARY KEY REFERENCES block,
    rows BLOB NOT NULL
);
CREATE TABLE incident (
    run INTEGER NOT NULL REFERENCES run,
    rank INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attributes TEXT NOT NULL,  -- JSON
    PRIMARY KEY (run, rank, time_ns, kind)
) WITHOUT ROWID;
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL  -- when it was last tried whether the file can be written
);
"""


class HistoryError(RuntimeError):
    """The file cannot be used as a history."""


def connect(path: Path, *, timeout_seconds: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that any one thread at a time may use; transactions are begun explicitly."""
    return sqlite3.connect(
        path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False
    )


def prepare(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    """Makes the tables in a new file, and checks an old one.

    Raises:
        HistoryError: if the file is not a history, or one of a newer version.
    """
    try:
        version = _pragma(connection, "user_version")
        owner = _pragma(connection, "application_id")
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"{path} cannot be read as a history: {error}.") from error
    if empty and not version:
        _create(connection)
    elif owner != _APPLICATION_ID:
        raise HistoryError(f"{path} must be a history of Penaltyscope, got another database.")
    elif version != SCHEMA_VERSION:
        raise HistoryError(
            f"{path} must have schema version {SCHEMA_VERSION}, got {version}: "
            "it was written by a newer Penaltyscope; run that one, or use another data folder."
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES}"
        f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
