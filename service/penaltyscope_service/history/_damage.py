"""Tells a damaged file from one that cannot be used for another reason."""

import sqlite3
import time
from typing import Final

from isal.isal_zlib import crc32

from penaltyscope_service.history._schema import HistoryError

_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_STEPS_PER_LOOK: Final = 10_000
"""Of SQLite's virtual machine, between two looks at the clock."""


class DamagedError(HistoryError):
    """What is in the file is not what was written."""


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the file is damaged, not full, locked or forbidden."""
    if isinstance(error, sqlite3.DatabaseError):
        code = getattr(error, "sqlite_errorcode", None)
        # Python itself found text that is no text: it has no code of SQLite's.
        return "decode" in str(error) if code is None else code & 0xFF in _DAMAGE
    return isinstance(error, DamagedError)


def is_whole(data: bytes, checksum: int | None) -> bool:
    """Whether the bytes are those that were written; those without a checksum may be."""
    return checksum is None or crc32(data) == checksum


def require_whole(payload: bytes, checksum: int | None) -> None:
    """Raises DamagedError unless the bytes are those that were written."""
    if not is_whole(payload, checksum):
        raise DamagedError("a block of steps is not what was written.")


def look_for_damage(connection: sqlite3.Connection, seconds: float) -> None:
    """Looks through the whole file, or as far as one comes in a time.

    Raises:
        DamagedError: if there is any damage so far.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_PER_LOOK)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(f"{verdict}.")
        for payload, checksum in connection.execute("SELECT payload, checksum FROM block"):
            require_whole(payload, checksum)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        connection.set_progress_handler(None, 0)
