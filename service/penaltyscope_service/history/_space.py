"""Room in the file: how much is used, blocks that may go, and pages given back."""

import sqlite3
from typing import Final

_ORPHANS: Final = (
    "SELECT id FROM block WHERE stream IN "
    "(SELECT DISTINCT stream FROM block EXCEPT SELECT id FROM stream) LIMIT ?"
)
# The aggregate of its stream contains it, so no counter is any less without it.
_OLDEST: Final = (
    "SELECT block.id FROM block JOIN stream ON stream.id = block.stream "
    "WHERE block.packed AND block.id <= stream.through ORDER BY block.id LIMIT ?"
)


def page_count(connection: sqlite3.Connection) -> int:
    """Pages of the file."""
    return _pragma(connection, "page_count")


def free_pages(connection: sqlite3.Connection) -> int:
    """Pages of the file that hold nothing."""
    return _pragma(connection, "freelist_count")


def used_bytes(connection: sqlite3.Connection) -> int:
    """Of all pages that hold something."""
    pages = page_count(connection) - free_pages(connection)
    return pages * _pragma(connection, "page_size")


def delete_orphans(connection: sqlite3.Connection, most: int) -> int:
    """Deletes blocks of runs that were deleted; returns how many."""
    return _delete(connection, _ORPHANS, most)


def delete_oldest(connection: sqlite3.Connection, most: int) -> int:
    """Deletes the blocks that came first, of whatever run; returns how many."""
    return _delete(connection, _OLDEST, most)


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """Cuts free pages off the end of the file."""
    connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


def _delete(connection: sqlite3.Connection, which: str, most: int) -> int:
    numbers = connection.execute(which, (most,)).fetchall()
    connection.executemany("DELETE FROM rollup WHERE block = ?", numbers)
    connection.executemany("DELETE FROM block WHERE id = ?", numbers)
    return len(numbers)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
