"""The file that everything is kept in: every step, and what was counted of each run."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import orjson

from penaltyscope_events import StepBlock
from penaltyscope_service.history._block import BLOCK_ROWS, insert_block, insert_blocks
from penaltyscope_service.history._load import load, load_aggregate, load_steps
from penaltyscope_service.history._pack import cut, take_loose
from penaltyscope_service.history._reader import Reader
from penaltyscope_service.history._record import (
    PROCESS_COLUMNS,
    RUN_COLUMNS,
    SOURCE_COLUMNS,
    process_row,
    run_row,
    source_row,
)
from penaltyscope_service.history._rows import Changes, Incident, Loaded, Place, StreamRow
from penaltyscope_service.history._schema import HistoryError, Synchronous, connect, prepare

_PROBE_SECONDS: Final = 2.0


class History:
    """One shard's file. One thread writes; others read, one at a time."""

    def __init__(self, path: Path, writer: sqlite3.Connection, owner: sqlite3.Connection) -> None:
        self._path = path
        self._owner = owner
        self._writer = writer
        self._reader = connect(path)
        self._reading = threading.Lock()
        self._terms: dict[int, tuple[str, ...]] = {}
        # Never given twice, also when the newest blocks were deleted: `through` refers to them.
        self._last_block: int = max(
            writer.execute("SELECT ifnull(max(id), 0) FROM block").fetchone()[0],
            writer.execute("SELECT ifnull(max(through), 0) FROM stream").fetchone()[0],
        )

    @classmethod
    def open(cls, path: Path, *, synchronous: Synchronous = "NORMAL") -> Self:
        """Opens or creates the file, and keeps other processes from doing so.

        Args:
            path: the file; its folder is made where it is missing.
            synchronous: ``NORMAL`` survives a crash of the process, ``FULL`` one of the machine.

        Raises:
            HistoryError: if the file is in use, no history, or one of a newer version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            owner = undo.enter_context(closing(_own(path)))
            writer = undo.enter_context(closing(connect(path)))
            prepare(writer, path, synchronous)
            history = cls(path, writer, owner)
            undo.pop_all()
        return history

    def load(self) -> Loaded:
        """Everything but steps."""
        loaded = load(self._writer)
        self._terms = {row.id: row.names for row in loaded.terms}
        return loaded

    def load_aggregate(self, stream: int) -> tuple[bytes | None, int]:
        """A stream's stored aggregate, and the last block that is in it."""
        return load_aggregate(self._writer, stream)

    def load_steps(self, stream: StreamRow, after: int) -> Iterator[tuple[float, StepBlock]]:
        """A stream's blocks after a certain one, each with its time of reception, in order."""
        return load_steps(self._writer, stream, after, self._terms)

    def commit(self, changes: Changes) -> list[Incident]:
        """Writes everything or, when it raises, nothing. Returns the incidents that are new."""
        with self._transaction() as writer:
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
            insert_blocks(writer, ((self._next_block(), block) for block in changes.blocks))
            incidents = [i for i in changes.incidents if _insert_incident(writer, i)]
        self._terms |= {row.id: row.names for row in changes.terms}
        return incidents

    def pack(self, stream: int, places: Mapping[Place, bool], aggregate: bytes) -> dict[Place, int]:
        """Makes large blocks of the small ones of a stream.

        Args:
            stream: the stream's number.
            places: where to look, and whether no more steps are expected there, so that what is
                left after cutting is packed too.
            aggregate: of all blocks of the stream; from now on only newer ones need to be added.

        Returns:
            How many evaluations are left in small blocks, by place.
        """
        left: dict[Place, int] = {}
        with self._transaction() as writer:
            for place, final in places.items():
                loose = take_loose(writer, place, self._terms[place.terms])
                for block in cut(loose) if loose else ():
                    packed = final or len(block.steps) == BLOCK_ROWS
                    insert_block(writer, self._next_block(), block, packed=packed)
                    if not packed:
                        left[place] = len(block.steps)
            writer.execute(
                "UPDATE stream SET aggregate = ?, through = ? WHERE id = ?",
                (aggregate, self._last_block, stream),
            )
        return left

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A view of one moment, undisturbed by what is written meanwhile."""
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield Reader(self._reader, self._terms)
            finally:
                self._reader.execute("ROLLBACK")

    def size_bytes(self) -> int:
        """Of the file and its log."""
        size = 0
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                size += Path(f"{self._path}{suffix}").stat().st_size
        return size

    def probe(self, now: float) -> None:
        """Writes something, to raise if that is not possible."""
        connection = connect(self._path, timeout_seconds=_PROBE_SECONDS)
        try:
            connection.execute("INSERT OR REPLACE INTO probe VALUES (1, ?)", (now,))
        finally:
            connection.close()

    def close(self) -> None:
        """Closes the file; another process may open it."""
        with self._reading:
            self._reader.close()
        self._writer.close()
        self._owner.close()

    def _next_block(self) -> int:
        self._last_block += 1
        return self._last_block

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise


def _own(path: Path) -> sqlite3.Connection:
    """Holds a lock until it is closed, or the process ends in whatever way."""
    owner = connect(path.with_name(path.name + ".lock"), timeout_seconds=0)
    try:
        owner.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        owner.close()
        raise HistoryError(
            f"{path} must be writable and in use by no other process: {error}."
        ) from None
    return owner


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
