"""The file that everything is kept in: every step, and what was counted of each run."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

from penaltyscope_service.history._archive import Archive
from penaltyscope_service.history._block import cut, insert_blocks, insert_piece
from penaltyscope_service.history._commit import write_records, write_sources
from penaltyscope_service.history._damage import DamagedError, is_damage, look_for_damage
from penaltyscope_service.history._graves import Graves, bury
from penaltyscope_service.history._load import load, load_aggregate, load_steps
from penaltyscope_service.history._lock import take_lock
from penaltyscope_service.history._migrate import migrate
from penaltyscope_service.history._pack import Packing, delete_loose, read_loose
from penaltyscope_service.history._reader import Reader
from penaltyscope_service.history._rows import (
    Changes,
    Incident,
    Loaded,
    NewBlock,
    Place,
    SourceRow,
    StreamRow,
)
from penaltyscope_service.history._schema import Synchronous, connect, create, require_ours
from penaltyscope_service.history._space import (
    delete_oldest,
    delete_orphans,
    free_pages,
    give_back,
    page_count,
    used_bytes,
)

_PROBE_SECONDS: Final = 2.0
_LOG_BYTES: Final = 16 * 1024**2
"""To which the log is cut after it had to grow."""
_CHECK_SECONDS: Final = 5.0
"""How long a start looks for damage; what is further back in a large file is found when read."""


class History:
    """One shard's file. One thread writes; others read, one at a time."""

    def __init__(self, path: Path, writer: sqlite3.Connection, lock: IO[str]) -> None:
        self._path = path
        self._lock = lock
        self._writer = writer
        self._terms: dict[int, tuple[str, ...]] = {}
        self.graves = Graves(writer)
        """Runs that were deleted."""
        # Never given twice, also when the newest blocks were deleted: `through` refers to them.
        self._last_block: int = max(
            writer.execute("SELECT ifnull(max(id), 0) FROM block").fetchone()[0],
            writer.execute("SELECT ifnull(max(through), 0) FROM stream").fetchone()[0],
        )
        self._reader = connect(path)
        self._reading = threading.Lock()

    @classmethod
    def open(
        cls, path: Path, *, synchronous: Synchronous = "NORMAL", lock: IO[str] | None = None
    ) -> Self:
        """Opens or creates the file, and keeps other processes from doing so.

        Args:
            path: the file; its folder is made where it is missing.
            synchronous: ``NORMAL`` survives a crash of the process, ``FULL`` one of the machine.
            lock: from ``take_lock``, if the caller has it already; closed with the history.

        Raises:
            DamagedError: if the file is not what was written.
            HistoryError: if the file is in use, no history, or one of a newer version.
        """
        with ExitStack() as undo:
            if lock is None:
                lock = undo.enter_context(take_lock(path))
            writer = undo.enter_context(closing(connect(path)))
            try:
                _prepare(writer, path, synchronous)
                history = cls(path, writer, lock)
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    raise DamagedError(f"{path} cannot be read as a history: {error}.") from error
                raise
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

    def load_steps(self, stream: StreamRow, after: int) -> Iterator[NewBlock]:
        """A stream's blocks after a certain one, in order."""
        return load_steps(self._writer, stream, after, self._terms)

    def commit(self, changes: Changes) -> list[Incident]:
        """Writes everything or, when it raises, nothing. Returns the incidents that are new."""
        # Known before they can be read; of numbers that are not written nobody asks.
        self._terms |= {row.id: row.names for row in changes.terms}
        with self._transaction() as writer:
            incidents = write_records(writer, changes)
            insert_blocks(writer, ((self._next_block(), block) for block in changes.blocks))
        return incidents

    def pack(self, packings: Iterable[Packing]) -> list[dict[Place, int]]:
        """Makes large blocks of the small ones of some streams: of all of them, or it raises.

        Returns:
            For each, how many evaluations are left in small blocks, by place.
        """
        with self._transaction() as writer:
            return [self._pack(writer, packing) for packing in packings]

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A view of one moment, undisturbed by what is written meanwhile."""
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield Reader(self._reader, self._terms)
            finally:
                self._reader.execute("ROLLBACK")

    def archive(self, run: str) -> AbstractContextManager[Archive | None]:
        """A run with all its steps; every caller gets a connection of its own."""
        return Archive.open(self._path, run)

    def size_bytes(self) -> int:
        """Of the file and its log."""
        size = 0
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                size += Path(f"{self._path}{suffix}").stat().st_size
        return size

    def used_bytes(self) -> int:
        """Of that part of the file which holds something."""
        return used_bytes(self._writer)

    def bury(self, run: int, sources: Iterable[SourceRow], now: float) -> None:
        """Deletes a run by its number; its steps are orphans from now on.

        Args:
            run: its number.
            sources: how far its recorders have come, where that may not be written.
            now: Unix time in seconds.
        """
        with self._transaction() as writer:
            write_sources(writer, sources)
            bury(writer, run, now)

    def delete_orphans(self, most: int) -> int:
        """Deletes blocks of buried runs; returns how many."""
        with self._transaction() as writer:
            return delete_orphans(writer, most)

    def delete_oldest(self, most: int) -> int:
        """Deletes the oldest blocks that every counter contains; returns how many."""
        with self._transaction() as writer:
            return delete_oldest(writer, most)

    def free_ratio(self) -> float:
        """Of the file, that part which holds nothing."""
        return free_pages(self._writer) / max(page_count(self._writer), 1)

    def shrink(self, most: int) -> int:
        """Cuts pages that hold nothing off the file; returns how many there still are."""
        give_back(self._writer, most)
        left = free_pages(self._writer)
        if not left:  # the file itself is cut when the log is moved to it
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return left

    def probe(self, now: float) -> None:
        """Writes something, to raise if that is not possible."""
        connection = connect(self._path, timeout_seconds=_PROBE_SECONDS)
        try:
            connection.execute("INSERT OR REPLACE INTO probe VALUES (1, ?)", (now,))
        finally:
            connection.close()

    def close(self) -> None:
        """Closes the file; another process may open it."""
        self.disconnect()
        self._lock.close()

    def disconnect(self) -> None:
        """Closes the file, but keeps other processes from opening it."""
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _pack(self, writer: sqlite3.Connection, packing: Packing) -> dict[Place, int]:
        left: dict[Place, int] = {}
        write_sources(writer, packing.sources)
        for place, final in packing.places.items():
            pieces = packing.known.get(place)
            if pieces is None:
                loose = read_loose(writer, place, self._terms[place.terms])
                pieces = cut(loose, final=final) if loose else ()
            delete_loose(writer, place)
            for piece in pieces:
                insert_piece(writer, self._next_block(), piece)
                if piece.rollup is None:
                    left[place] = len(piece.block.step)
        writer.execute(
            "UPDATE stream SET aggregate = ?, through = ? WHERE id = ?",
            (packing.aggregate, self._last_block, packing.stream),
        )
        return left

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


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    """Makes the tables in a new file; checks an old one and brings it up to date."""
    create(connection)
    version = require_ours(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    migrate(connection, version)
    look_for_damage(connection, _CHECK_SECONDS)
