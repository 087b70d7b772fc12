"""What is remembered of runs that were deleted: how far each of their recorders had come.

A retry that arrives after its run was deleted finds its numbers below ``high`` and is a duplicate,
as before. A number that had not arrived by then is new and brings the run back; gaps are forgotten.
"""

import sqlite3
from typing import Final

GRAVE_SECONDS: Final = 90 * 86_400.0
"""How long a deleted run is remembered: longer than any recorder keeps a request to send again."""


class Graves:
    """Read by the thread that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def attempt(self, run: str) -> int | None:
        """The last attempt of a deleted run; nothing if none of that name is remembered."""
        (attempt,) = self._connection.execute(
            "SELECT max(attempt) FROM grave WHERE run = ?", (run,)
        ).fetchone()
        return None if attempt is None else int(attempt)

    def high(self, run: str, rank: int, pipeline: str, incarnation: str) -> int:
        """The number below which all evaluations of a recorder came before the run was deleted."""
        found = self._connection.execute(
            "SELECT high FROM grave WHERE run = ? AND rank = ? AND pipeline = ? "
            "AND incarnation = ?",
            (run, rank, pipeline, incarnation),
        ).fetchone()
        return int(found[0]) if found else 0


def bury(connection: sqlite3.Connection, run: int, now: float) -> None:
    """Deletes everything of a run but its steps, which belong to nothing then."""
    connection.execute(
        "INSERT OR REPLACE INTO grave "
        "SELECT run.run, stream.rank, stream.pipeline, source.incarnation, run.attempt, "
        "source.high, ? FROM run JOIN stream ON stream.run = run.id "
        "JOIN source ON source.stream = stream.id WHERE run.id = ?",
        (now, run),
    )
    connection.execute(
        "DELETE FROM source WHERE stream IN (SELECT id FROM stream WHERE run = ?)", (run,)
    )
    for table in ("stream", "process", "incident"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    connection.execute("DELETE FROM run WHERE id = ?", (run,))
    connection.execute("DELETE FROM grave WHERE buried_at < ?", (now - GRAVE_SECONDS,))
