"""Files that older versions wrote, and what is done with them."""

import base64
import json
import sqlite3
from pathlib import Path
from zlib import crc32

import pytest

from penaltyscope_service.history import SCHEMA_VERSION, Archive, History, HistoryError
from penaltyscope_service.history._payload import decode_block
from tests.service.observed import batch, ending, open_observatory
from tests.service.steps import make_steps, same_steps


def make_version_1(folder: Path) -> Path:
    """A file as version 1 wrote it: no graves, no checksums."""
    observatory = open_observatory(folder)
    observatory.ingest([batch(make_steps(range(2000)), events=[ending("finished")])])
    observatory.ingest([batch(make_steps(range(7)), run="live")])
    observatory.close()
    path = folder / "history.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "DROP TABLE grave; ALTER TABLE block DROP COLUMN checksum; "
            "ALTER TABLE rollup DROP COLUMN checksum; PRAGMA user_version = 1;"
        )
    connection.close()
    return path


def test_a_file_of_version_1_is_brought_up_to_date_and_has_every_step(tmp_path: Path) -> None:
    path = make_version_1(tmp_path)
    observatory = open_observatory(tmp_path)
    assert {run.run: run.steps for run in observatory.runs()} == {"live": 7, "r": 2000}
    outcome = observatory.ingest([batch(make_steps(range(1990, 2005)))])
    assert (outcome.new_steps, outcome.duplicates) == (5, 10)
    with observatory.archive("r") as archive:
        assert archive is not None
        kept = sum(len(block) for stream in archive.streams for block in archive.steps(stream))
    assert kept == 2005
    observatory.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("SELECT count(*) FROM grave").fetchone() == (0,)
    connection.close()


def test_packed_blocks_of_version_2_are_read_beside_new_ones(tmp_path: Path) -> None:
    older = json.loads((Path(__file__).parent / "older" / "version_2.json").read_text())["noise"]
    payload, rollup, plain = (base64.b64decode(older[k]) for k in ("packed", "rollup", "plain"))
    expected = decode_block(
        plain, pipeline="p", incarnation="first", terms=("a", "b"), rows=older["rows"]
    )
    observatory = open_observatory(tmp_path)
    observatory.ingest([batch(expected, events=[ending("finished")])])
    observatory.close()
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        changed = connection.execute(
            "UPDATE block SET payload = ?, checksum = ? WHERE packed", (payload, crc32(payload))
        )
        assert changed.rowcount == 1
        connection.execute("UPDATE rollup SET rows = ?", (rollup,))
        connection.execute("ALTER TABLE rollup DROP COLUMN checksum")
        connection.execute("PRAGMA user_version = 2")
    connection.close()

    observatory = open_observatory(tmp_path)
    new = make_steps(range(200, 300))
    observatory.ingest([batch(new, events=[ending("finished", 200)])])
    with observatory.archive("r") as archive:
        assert archive is not None
        blocks = [block for stream in archive.streams for block in archive.steps(stream)]
    assert same_steps(blocks[0], expected)
    assert same_steps(blocks[1], new)
    observatory.close()


def test_migrated_tables_are_those_of_a_new_file(tmp_path: Path) -> None:
    make_version_1(tmp_path)
    History.open(tmp_path / "history.sqlite").close()
    History.open(tmp_path / "new.sqlite").close()
    tables = []
    for name in ("history.sqlite", "new.sqlite"):
        connection = sqlite3.connect(tmp_path / name)
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        columns = {
            table: [column[1:] for column in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in sorted(names)
        }
        indexes = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'")
        tables.append((columns, sorted(indexes)))
        connection.close()
    assert tables[0] == tables[1]


def test_a_migration_that_cannot_be_finished_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = make_version_1(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE grave (theirs)")  # in the way
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="grave"):
        History.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(block)")]
    connection.close()
    assert "checksum" not in columns


def test_reading_an_older_file_beside_the_service_says_what_to_do(tmp_path: Path) -> None:
    path = make_version_1(tmp_path)
    with (
        pytest.raises(HistoryError, match=r"got 1: start this version's service on it once\."),
        Archive.open(path, "r"),
    ):
        pass
