"""The file: what is written stays, all of it or nothing."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from penaltyscope_events import StepBlock
from penaltyscope_service.dedupe import Gap, Ledger
from penaltyscope_service.history import (
    BLOCK_ROWS,
    SCHEMA_VERSION,
    Changes,
    DamagedError,
    History,
    HistoryError,
    Incident,
    NewBlock,
    Packing,
    Place,
    SourceRow,
    StreamRow,
    TermsRow,
    cut,
    keep,
)
from penaltyscope_service.joining import join
from penaltyscope_service.states import Ending, ProcessRecord, RunRecord
from penaltyscope_service.summary import Failure
from tests.service.steps import make_steps, same_steps

STREAM = StreamRow(2, 1, 0, "p")
PLACE = Place(2, 3, 4)
RUN = RunRecord(
    id=1,
    run="näme\n",
    started_at=1.5,
    received_at=2.5,
    reopened_at=1.5,
    attempt=3,
    world_size=8,
    tags={"lr": "0.1"},
    ranks=(0,),
    present=frozenset({0}),
    endings={0: Ending(status="failed", time_ns=5)},
    ended_at=2.5,
    failure=Failure(type="ValueError", message="no"),
)
PROCESS = ProcessRecord(run=1, rank=0, received_at=2.5, start_ns=1, overhead_seconds=0.5)


def everything(*blocks: StepBlock) -> Changes:
    return Changes(
        runs=[RUN],
        processes=[PROCESS],
        streams=[STREAM],
        sources=[SourceRow(3, 2, "first", Ledger(high=9, gaps=(Gap(1, 2, 3.5),), lost=4))],
        terms=[TermsRow(4, ("a", "b"))],
        blocks=[keep(NewBlock(PLACE, 2.5, block)) for block in blocks],
        incidents=[Incident(1, 0, 7, "spike", "{}")],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made on opening" / "history.sqlite"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    history = History.open(path)
    yield history
    history.close()


def steps_of(history: History) -> StepBlock:
    return join([block.steps for block in history.load_steps(STREAM, 0)])


def pack(history: History, *, final: bool = True) -> dict[Place, int]:
    packing = Packing(stream=STREAM.id, places={PLACE: final}, aggregate=b"aggregate", sources=[])
    return history.pack([packing])[0]


def test_everything_is_there_after_opening_again(path: Path) -> None:
    block = make_steps(range(5))
    changes = everything(block)
    history = History.open(path)
    assert history.commit(changes) == changes.incidents
    history.close()
    history = History.open(path)
    loaded = history.load()
    assert (loaded.runs, loaded.processes) == (changes.runs, changes.processes)
    assert (loaded.streams, loaded.sources) == (changes.streams, changes.sources)
    assert loaded.terms == changes.terms
    assert loaded.loose == {PLACE: 5}
    assert loaded.incidents == {(1, "spike"): 1}
    assert same_steps(steps_of(history), block)
    history.close()


def test_an_incident_that_comes_again_is_not_new(history: History) -> None:
    history.commit(everything())
    assert history.commit(Changes(incidents=[Incident(1, 0, 7, "spike", "{}")])) == []
    other = Incident(1, 0, 8, "spike", "{}")
    assert history.commit(Changes(incidents=[other])) == [other]


def test_a_full_disk_leaves_no_trace_of_the_transaction(path: Path) -> None:
    history = History.open(path)
    pages = history._writer.execute("PRAGMA page_count").fetchone()[0]
    history._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        history.commit(everything(make_steps(range(2000))))
    loaded = history.load()
    assert (loaded.runs, loaded.loose, loaded.incidents) == ([], {}, {})
    history._writer.execute("PRAGMA max_page_count = 100000")
    history.commit(everything(make_steps(range(2000))))
    assert history.load().loose == {PLACE: 2000}
    history.close()


def test_small_blocks_become_large_ones_with_the_same_steps(history: History) -> None:
    history.commit(everything())
    parts = [make_steps(range(i, i + 100)) for i in range(0, 1100, 100)]
    for part in parts:
        history.commit(Changes(blocks=[keep(NewBlock(PLACE, 3.0, part))]))
    left = pack(history, final=False)
    assert left == {PLACE: 1100 - BLOCK_ROWS} == history.load().loose
    assert same_steps(steps_of(history), join(parts))
    with history.reading() as reader:
        large, small = reader.heads(STREAM.id, 0, 10**9)
        assert (large.packed, large.rows, large.first_step, large.last_step) == (
            True,
            1024,
            0,
            1023,
        )
        assert reader.rollups([large], range(9)).shape == (4, 9)
        assert (small.packed, small.rows) == (False, 76)


def test_blocks_that_are_in_memory_are_packed_without_being_read(history: History) -> None:
    parts = [make_steps(range(i, i + 512)) for i in (0, 512)]
    history.commit(everything(*parts))
    history._writer.execute("UPDATE block SET payload = x'00'")
    known = {PLACE: cut(NewBlock(PLACE, 2.5, join(parts)), final=False)}
    packing = Packing(
        stream=STREAM.id, places={PLACE: False}, aggregate=b"", sources=[], known=known
    )
    assert history.pack([packing]) == [{}]
    assert same_steps(steps_of(history), join(parts))


def test_what_is_left_of_a_run_that_ended_is_packed_too(history: History) -> None:
    history.commit(everything(make_steps(range(10))))
    assert pack(history) == {}
    with history.reading() as reader:
        assert [(head.packed, head.rows) for head in reader.heads(STREAM.id, 0, 99)] == [(True, 10)]


def test_an_aggregate_is_stored_with_the_last_block_in_it(history: History) -> None:
    history.commit(everything(make_steps(range(10))))
    assert history.load_aggregate(STREAM.id) == (None, 0)
    pack(history)
    aggregate, through = history.load_aggregate(STREAM.id)
    assert aggregate == b"aggregate"
    assert list(history.load_steps(STREAM, through)) == []
    later = make_steps(range(10, 12))
    history.commit(Changes(blocks=[keep(NewBlock(PLACE, 4.0, later))]))
    ((_, received_at, block),) = history.load_steps(STREAM, through)
    assert received_at == 4.0
    assert same_steps(block, later)


def test_a_block_never_gets_the_number_of_one_that_was_deleted(path: Path) -> None:
    history = History.open(path)
    history.commit(everything(make_steps(range(10))))
    pack(history)
    _, through = history.load_aggregate(STREAM.id)
    history._writer.execute("DELETE FROM block")
    history.close()
    history = History.open(path)
    history.load()
    history.commit(Changes(blocks=[keep(NewBlock(PLACE, 4.0, make_steps([10])))]))
    assert len(list(history.load_steps(STREAM, through))) == 1
    history.close()


def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(history: History) -> None:
    history.commit(everything(make_steps(range(10))))
    with history.reading() as reader:
        before = reader.heads(STREAM.id, 0, 99)
        pack(history)
        assert reader.heads(STREAM.id, 0, 99) == before
        assert len(reader.columns(before[0], ["step"])["step"]) == 10


def test_only_blocks_in_the_range_of_steps_are_read(history: History) -> None:
    history.commit(everything(*(make_steps(range(i, i + 10)) for i in (0, 10, 20, 30))))
    with history.reading() as reader:
        heads = reader.heads(STREAM.id, 19, 20)
        assert [head.first_step for head in heads] == [10, 20]


def test_a_rollup_that_is_not_what_was_written_is_made_anew_of_its_block(history: History) -> None:
    history.commit(everything(make_steps(range(600))))
    pack(history)
    (stored,) = history._writer.execute("SELECT rows FROM rollup").fetchone()
    with history.reading() as reader:
        heads = reader.heads(STREAM.id, 0, 999)
        before = reader.rollups(heads, range(9))
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 1
        history._writer.execute("UPDATE rollup SET rows = ?", (damaged,))
        with history.reading() as reader:
            assert reader.rollups(heads, range(9)).tobytes() == before.tobytes()


def test_a_block_that_is_not_what_was_written_is_not_shown(history: History) -> None:
    history.commit(everything(make_steps(range(600))))
    pack(history)
    (payload,) = history._writer.execute("SELECT payload FROM block").fetchone()
    damaged = bytearray(payload)
    damaged[-1] ^= 1  # of the noise of a number
    history._writer.execute("UPDATE block SET payload = ?", (damaged,))
    with history.reading() as reader:
        heads = reader.heads(STREAM.id, 0, 999)
        assert len(reader.rollups(heads, range(9))) == 3
        with pytest.raises(DamagedError, match="not what was written"):
            reader.columns(heads[0], ["value"])
    history._writer.execute("UPDATE rollup SET rows = x'00'")
    with history.reading() as reader, pytest.raises(DamagedError, match="not what was written"):
        reader.rollups(heads, range(9))


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    History.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    newer = SCHEMA_VERSION + 1
    message = f"schema version {SCHEMA_VERSION} or older, got {newer}: .* newer Penaltyscope"
    for _ in range(2):  # the refusal keeps no lock
        with pytest.raises(HistoryError, match=message):
            History.open(path)


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(HistoryError, match="must be a history of Penaltyscope"):
        History.open(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(HistoryError, match="cannot be read as a history"):
        History.open(path)


def test_a_second_service_cannot_open_the_same_file(history: History, path: Path) -> None:
    with pytest.raises(HistoryError, match=f"is in use by process {os.getpid()}; every service"):
        History.open(path)
    history.close()
    History.open(path).close()


def test_a_probe_raises_when_nothing_can_be_written(history: History, path: Path) -> None:
    history.probe(1.0)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE probe")
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="probe"):
        history.probe(1.0)


def test_the_size_is_that_of_the_file_and_its_log(history: History, path: Path) -> None:
    history.commit(everything(make_steps(range(1000))))
    files = [path, path.with_name(path.name + "-wal")]
    assert history.size_bytes() == sum(file.stat().st_size for file in files)


def test_a_step_survives_a_crash_of_the_machine_when_it_must(path: Path) -> None:
    history = History.open(path, synchronous="FULL")
    assert history._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert history._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    history.close()
