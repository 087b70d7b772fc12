"""The tables of the history's file, and how it is opened."""

import sqlite3
from pathlib import Path
from typing import Final, Literal

Synchronous = Literal["NORMAL", "FULL"]

SCHEMA_VERSION: Final = 5
_APPLICATION_ID: Final = 0x50534350  # "PSCP", so that `file` and we know whose file it is
_BUSY_SECONDS: Final = 10.0
_STATEMENTS: Final = 512
"""That are remembered: some tables have one for every number of rows up to 64."""
_PAGE_BYTES: Final = 8192
"""Of a new file. Blocks take a few kilobytes: each page of the log costs two calls of the system,
and a larger page is written in full also where little of it has changed."""
_LOG_PAGES: Final = 2000
"""When the log is moved to the file: what was written over meanwhile need not be moved."""

GRAVE_TABLE: Final = """
CREATE TABLE grave (
    run TEXT NOT NULL,
    rank INTEGER NOT NULL,
    pipeline TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    high INTEGER NOT NULL,  -- evaluations below it came before the run was deleted
    buried_at REAL NOT NULL,
    PRIMARY KEY (run, rank, pipeline, incarnation)
) WITHOUT ROWID;
"""
"""What is left of a deleted run, so that a late retry does not bring it back."""

BLOCK_INDEX: Final = """
CREATE INDEX block_of_stream ON block
    (stream, packed, source, terms, rows, first_step, last_step, nonfinite_rows);
"""
"""Has all that is asked of blocks without their steps, so that those need not be passed over."""

_TABLES: Final = f"""
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
    high INTEGER NOT NULL,  -- less than its blocks say, until those are packed
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
    payload BLOB NOT NULL,
    checksum INTEGER  -- CRC-32 of the payload
);
{BLOCK_INDEX}
CREATE TABLE rollup (
    block INTEGER PRIMARY KEY REFERENCES block,
    rows BLOB NOT NULL,
    checksum INTEGER  -- CRC-32 of the rows
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
{GRAVE_TABLE}
"""


class HistoryError(RuntimeError):
    """The file cannot be used as a history."""


def connect(path: Path, *, timeout_seconds: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that any one thread at a time may use; transactions are begun explicitly."""
    connection = sqlite3.connect(
        path,
        timeout=timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    # Some builds fill with zeros what is deleted, and write it: five times what packing needs.
    connection.execute("PRAGMA secure_delete = OFF").fetchall()
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}").fetchall()
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, also while a service writes.

    Raises:
        HistoryError: if there is no history of this version.
    """
    if not path.is_file():
        raise HistoryError(f"{path} must be a history, got no such file.")
    address = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        version = require_ours(connection, path)
        if version != SCHEMA_VERSION:
            raise HistoryError(
                f"{path} must have schema version {SCHEMA_VERSION}, got {version}: "
                "start this version's service on it once."
            )
    except HistoryError:
        connection.close()
        raise
    return connection


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables, if there are none."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return
    # Only before the first table.
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES}"
        f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
    )


def require_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file.

    Raises:
        HistoryError: if the file is not a history, or one of a newer version.
    """
    version = _pragma(connection, "user_version")
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        raise HistoryError(f"{path} must be a history of Penaltyscope, got another database.")
    if version > SCHEMA_VERSION:
        raise HistoryError(
            f"{path} must have schema version {SCHEMA_VERSION} or older, got {version}: "
            "it was written by a newer Penaltyscope; run that one, or use another data folder."
        )
    return version


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
