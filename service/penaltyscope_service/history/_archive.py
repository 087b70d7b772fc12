"""One run read from the file as it was at one moment, also while a service writes to it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

from penaltyscope_events import StepBlock
from penaltyscope_service.history._damage import require_whole
from penaltyscope_service.history._payload import decode_block
from penaltyscope_service.history._record import (
    PROCESS_COLUMNS,
    RUN_COLUMNS,
    read_process,
    read_run,
)
from penaltyscope_service.history._rows import Incident, StreamRow
from penaltyscope_service.history._schema import connect_to_read
from penaltyscope_service.states import ProcessRecord, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A run without its steps, and the way to them."""

    record: RunRecord
    processes: Sequence[ProcessRecord]
    incidents: Sequence[Incident]
    streams: Sequence[StreamRow]
    """In order of appearance."""
    connection: sqlite3.Connection

    @classmethod
    @contextmanager
    def open(cls, path: Path, run: str) -> Iterator[Self | None]:
        """A run by its id, or nothing if it is not known; valid within the context.

        Raises:
            HistoryError: if there is no history of this version in the file.
        """
        connection = connect_to_read(path)
        try:
            connection.execute("BEGIN")
            yield cls._read(connection, run)
        finally:
            connection.close()

    @classmethod
    def _read(cls, connection: sqlite3.Connection, run: str) -> Self | None:
        row = connection.execute(
            f"SELECT {', '.join(RUN_COLUMNS)} FROM run WHERE run = ?", (run,)
        ).fetchone()
        if row is None:
            return None
        number = row[:1]
        processes = connection.execute(
            f"SELECT {', '.join(PROCESS_COLUMNS)} FROM process WHERE run = ? ORDER BY rank", number
        )
        incidents = connection.execute(
            "SELECT run, rank, time_ns, kind, attributes FROM incident WHERE run = ? "
            "ORDER BY time_ns",
            number,
        )
        streams = connection.execute(
            "SELECT id, run, rank, pipeline FROM stream WHERE run = ? ORDER BY id", number
        )
        known = [read_process(process) for process in processes]
        return cls(
            record=read_run(row, tuple(process.rank for process in known)),
            processes=known,
            incidents=[Incident(*incident) for incident in incidents],
            streams=[StreamRow(*stream) for stream in streams],
            connection=connection,
        )

    def steps(self, stream: StreamRow) -> Iterator[StepBlock]:
        """A stream's steps in order of arrival, no more than one stored block in memory.

        Raises:
            DamagedError: if a block is not what was written.
        """
        rows = self.connection.execute(
            "SELECT incarnation, names, rows, payload, checksum FROM block "
            "JOIN source ON source.id = block.source JOIN terms ON terms.id = block.terms "
            "WHERE block.stream = ? ORDER BY block.id",
            (stream.id,),
        )
        for incarnation, names, count, payload, checksum in rows:
            require_whole(payload, checksum)
            yield decode_block(
                payload,
                pipeline=stream.pipeline,
                incarnation=incarnation,
                terms=tuple(orjson.loads(names)),
                rows=count,
            )
