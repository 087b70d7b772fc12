import sqlite3

import pytest

from penaltyscope_service.history._insert import Insert


@pytest.mark.parametrize("count", [0, 1, 3, 64, 65, 200])
def test_all_rows_are_inserted_in_order(count: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE pair (place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER)"
    )

    Insert("pair (number)", 1)(connection, ((n * n,) for n in range(count)))

    assert connection.execute("SELECT number FROM pair ORDER BY place").fetchall() == [
        (n * n,) for n in range(count)
    ]


def test_two_rows_of_one_statement_may_be_for_the_same_key() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE pair (key INTEGER PRIMARY KEY, number INTEGER)")
    upsert = Insert("pair", 2, "ON CONFLICT (key) DO UPDATE SET number = excluded.number")

    upsert(connection, [(1, 10), (2, 20), (1, 11)])

    assert connection.execute("SELECT * FROM pair").fetchall() == [(1, 11), (2, 20)]


def test_few_statements_insert_many_rows() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE pair (number INTEGER)")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)

    Insert("pair", 1)(connection, ((n,) for n in range(100)))

    # 64 and 36 rows; Python itself begins a transaction.
    assert sum(s.startswith("INSERT") for s in statements) == 2
