"""A service starts whatever its file has become, and says what it found."""

import logging
import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from penaltyscope_service.history import Archive, DamagedError, HistoryError
from tests.service.observed import Clock, batch, ending, labels, open_observatory, read
from tests.service.steps import make_steps

RUNS = ("a", "b", "c")
ROWS = 3000


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of three runs, one of them under way."""
    folder = tmp_path_factory.mktemp("template")
    observatory = open_observatory(folder)
    numbers = np.random.default_rng(1)
    for first in range(0, ROWS, 100):
        for run in RUNS:
            value = np.stack((numbers.normal(size=100), np.full(100, float(first))), axis=1)
            observatory.ingest([batch(make_steps(range(first, first + 100), value=value), run=run)])
    observatory.ingest([batch(run=run, events=[ending("finished")]) for run in RUNS[1:]])
    observatory.tidy()
    observatory.close()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(template, tmp_path / "data"))


def asides(folder: Path) -> list[Path]:
    """Damaged files, without their logs."""
    return [file for file in folder.glob("*damaged*") if not file.name.endswith("-wal")]


def steps_in(folder: Path) -> dict[str, set[tuple[int, float]]]:
    """Number and second term's value of every step that can be exported."""
    steps: dict[str, set[tuple[int, float]]] = {}
    for run in RUNS:
        with Archive.open(folder / "history.sqlite", run) as archive:
            for stream in archive.streams if archive is not None else ():
                for block in archive.steps(stream) if archive is not None else ():
                    pairs = zip(block.seq.tolist(), block.value[:, 1].tolist(), strict=True)
                    steps.setdefault(run, set()).update(pairs)
    return steps


TRUTH = {(seq, float(seq // 100 * 100)) for seq in range(ROWS)}


def test_the_start_says_what_was_found(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_observatory(folder).close()
    (line,) = [r.getMessage() for r in caplog.records if r.name.endswith("opening")]
    size = (folder / "history.sqlite").stat().st_size
    assert line == (
        f"{folder / 'history.sqlite'}: 3 runs, {3 * ROWS} steps, the last one at "
        f"2023-11-14T22:13:20Z, {size} bytes; it was closed well, or is new"
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_page_of_rubbish_costs_no_more_than_what_was_on_it(
    folder: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "history.sqlite"
    numbers = random.Random(seed)
    pages = file.stat().st_size // 4096
    # The first one, the last one and others.
    page = {0: 0, 1: pages - 1}.get(seed, numbers.randrange(1, pages))
    with file.open("r+b") as opened:
        opened.seek(page * 4096)
        opened.write(numbers.randbytes(4096))
    observatory = open_observatory(folder)
    counted = {run.run: run.steps for run in observatory.runs()}
    kept = steps_in(folder)
    assert all(steps <= TRUTH for steps in kept.values())
    assert all(counted.get(run, 0) <= ROWS for run in RUNS)
    observatory.ingest([batch(make_steps(range(ROWS, ROWS + 5)), run="a")])
    observatory.close()
    aside = asides(folder)
    if aside:
        assert "is damaged" in caplog.text
        assert str(aside[0]) in caplog.text
        open_observatory(folder).close()  # once is enough
        assert asides(folder) == aside
    else:  # a page that held nothing
        assert kept == dict.fromkeys(RUNS, TRUTH)


def test_steps_are_saved_from_both_sides_of_the_damage(folder: Path) -> None:
    file = folder / "history.sqlite"
    with sqlite3.connect(file) as connection:
        ((payload,),) = connection.execute(
            "SELECT payload FROM block ORDER BY id LIMIT 1 OFFSET 4"
        ).fetchall()
    connection.execute("VACUUM")  # pages that are free still hold what was there
    connection.close()
    data = file.read_bytes()
    place = data.find(payload[:200])
    file.write_bytes(data[:place] + bytes(200) + data[place + 200 :])
    observatory = open_observatory(folder)
    kept = steps_in(folder)
    lost = 3 * ROWS - sum(map(len, kept.values()))
    assert 0 < lost <= 1024
    assert all(steps <= TRUTH for steps in kept.values())
    # They were counted, and a counter never goes back.
    assert {run.run: run.steps for run in observatory.runs()} == dict.fromkeys(RUNS, ROWS)
    observatory.close()


@pytest.mark.parametrize("left", [100, 4096, 20_000])
def test_a_file_that_was_cut_off_is_put_aside(folder: Path, left: int) -> None:
    file = folder / "history.sqlite"
    os.truncate(file, left)
    observatory = open_observatory(folder)
    observatory.ingest([batch(make_steps(range(5)), run="new")])
    assert "new" in {run.run for run in observatory.runs()}
    observatory.close()
    (aside,) = asides(folder)
    assert aside.stat().st_size == left


def test_rows_that_are_no_records_do_not_stop_a_start(folder: Path) -> None:
    with sqlite3.connect(folder / "history.sqlite") as connection:
        connection.execute("UPDATE run SET details = '{' WHERE run = 'b'")
        connection.execute("UPDATE source SET gaps = 'x' WHERE id = (SELECT max(id) FROM source)")
    connection.close()
    observatory = open_observatory(folder)
    assert {run.run for run in observatory.runs()} == {"a", "c"}
    observatory.close()


def test_another_database_or_a_newer_one_is_left_where_it_is(folder: Path) -> None:
    file = folder / "history.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = sorted(folder.iterdir())
    with pytest.raises(HistoryError, match="newer Penaltyscope"):
        open_observatory(folder)
    assert set(before) <= set(folder.iterdir())
    assert asides(folder) == []


def test_an_older_copy_that_was_put_back_goes_on_and_says_what_is_missing(tmp_path: Path) -> None:
    clock = Clock()
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps(range(100)))])
    observatory.close()
    copy = (tmp_path / "history.sqlite").read_bytes()
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps(range(100, 150)))])
    observatory.close()
    (tmp_path / "history.sqlite").write_bytes(copy)
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps(range(150, 160)))])
    observatory.ingest([batch(make_steps(range(150, 160)))])
    clock.now += 301.0
    samples = read(observatory.render())
    assert samples["pipeline_steps_total"][labels(run="r", pipeline="p", rank=0)] == 110
    assert samples["ingest_missing_records_total"][labels(run="r", rank=0)] == 50
    observatory.close()


def test_damage_that_is_met_while_serving_makes_it_unready_and_a_restart_saves(
    folder: Path,
) -> None:
    observatory = open_observatory(folder)
    file = folder / "history.sqlite"
    with file.open("r+b") as opened:
        opened.write(b"\0" * file.stat().st_size)
    observatory._history._writer.execute("PRAGMA shrink_memory")
    more = batch(make_steps(range(ROWS, ROWS + 5000)), run="a")
    with pytest.raises(sqlite3.DatabaseError):
        observatory.ingest([more])
    with pytest.raises((DamagedError, sqlite3.DatabaseError)):
        observatory.check()
    observatory.close()
    open_observatory(folder).close()
