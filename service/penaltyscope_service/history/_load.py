"""What a service reads when it starts."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from penaltyscope_service.history._damage import require_whole
from penaltyscope_service.history._payload import decode_block
from penaltyscope_service.history._record import (
    PROCESS_COLUMNS,
    RUN_COLUMNS,
    SOURCE_COLUMNS,
    read_process,
    read_run,
    read_source,
)
from penaltyscope_service.history._rows import (
    Loaded,
    NewBlock,
    Place,
    StreamRow,
    TermsRow,
)

_NUMBERED: Final = ("run", "stream", "source", "terms")


def load(connection: sqlite3.Connection) -> Loaded:
    """Everything but steps, in the order in which it came."""
    processes = [read_process(row) for row in _select(connection, "process", PROCESS_COLUMNS)]
    ranks: dict[int, list[int]] = {}
    for process in processes:
        ranks.setdefault(process.run, []).append(process.rank)
    incidents = connection.execute("SELECT run, kind, count(*) FROM incident GROUP BY run, kind")
    loose = connection.execute(
        "SELECT stream, source, terms, sum(rows) FROM block WHERE packed = 0 "
        "GROUP BY stream, source, terms"
    )
    return Loaded(
        runs=[
            read_run(row, tuple(sorted(ranks.get(row[0], ()))))
            for row in _select(connection, "run", RUN_COLUMNS)
        ],
        processes=processes,
        streams=[
            StreamRow(*row)
            for row in _select(connection, "stream", ("id", "run", "rank", "pipeline"))
        ],
        sources=[read_source(row) for row in _select(connection, "source", SOURCE_COLUMNS)],
        terms=[
            TermsRow(number, tuple(orjson.loads(names)))
            for number, names in _select(connection, "terms", ("id", "names"))
        ],
        loose={Place(stream, source, terms): rows for stream, source, terms, rows in loose},
        incidents={(run, kind): count for run, kind, count in incidents},
        highest=_highest(connection),
    )


def load_aggregate(connection: sqlite3.Connection, stream: int) -> tuple[bytes | None, int]:
    """The stream's stored aggregate, and the last block that is in it."""
    aggregate, through = connection.execute(
        "SELECT aggregate, through FROM stream WHERE id = ?", (stream,)
    ).fetchone()
    return aggregate, through


def load_steps(
    connection: sqlite3.Connection,
    stream: StreamRow,
    after: int,
    terms: Mapping[int, tuple[str, ...]],
) -> Iterator[NewBlock]:
    """The stream's blocks after a certain one, in order."""
    rows = connection.execute(
        "SELECT source, incarnation, terms, rows, received_at, payload, checksum FROM block "
        "JOIN source ON source.id = block.source "
        "WHERE block.stream = ? AND block.id > ? ORDER BY block.id",
        (stream.id, after),
    )
    for source, incarnation, number, count, received_at, payload, checksum in rows:
        require_whole(payload, checksum)
        yield NewBlock(
            Place(stream.id, source, number),
            received_at,
            decode_block(
                payload,
                pipeline=stream.pipeline,
                incarnation=incarnation,
                terms=terms[number],
                rows=count,
            ),
        )


def _highest(connection: sqlite3.Connection) -> int:
    """Blocks of a run that was deleted may be there for a while, and keep their stream's number."""
    tables = (
        "SELECT max(stream) AS id FROM block",
        *(f"SELECT max(id) FROM {t}" for t in _NUMBERED),
    )
    (highest,) = connection.execute(
        f"SELECT max(id) FROM ({' UNION ALL '.join(tables)})"
    ).fetchone()
    return highest or 0


def _select(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1").fetchall()
