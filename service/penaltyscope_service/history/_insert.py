"""Many rows put into a table by few statements."""

import sqlite3
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

_MOST_ROWS: Final = 64
"""Of one statement: of twelve columns, far from the 32,766 values that SQLite takes."""


class Insert:
    """Inserts rows into one table.

    For every statement the interpreter's lock is let go, and to get it back from a busy thread
    takes longer than to insert a row: there is one statement for every number of rows.
    """

    def __init__(self, table: str, columns: int, rest: str = "") -> None:
        """Prepares the statements.

        Args:
            table: its name and, if they are not all, its columns.
            columns: how many values each row has.
            rest: of the statement, after the rows.
        """
        row = f"({', '.join('?' * columns)})"
        self._statements = [
            f"INSERT INTO {table} VALUES {', '.join([row] * size)} {rest}"
            for size in range(_MOST_ROWS + 1)
        ]

    def __call__(self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Inserts all rows, in order."""
        every = list(rows)
        for start in range(0, len(every), _MOST_ROWS):
            some = every[start : start + _MOST_ROWS]
            connection.execute(self._statements[len(some)], list(chain.from_iterable(some)))
