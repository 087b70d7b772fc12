"""What is deleted, and that it stays deleted."""

from pathlib import Path

import numpy as np
import pytest

from penaltyscope_events import names
from penaltyscope_service.observatory import Observatory
from tests.service.observed import (
    Clock,
    batch,
    ending,
    event,
    labels,
    open_observatory,
    read,
)
from tests.service.steps import make_steps

DAY = 86_400.0


def run_ids(observatory: Observatory) -> list[str]:
    return [run.run for run in observatory.runs()]


def finish(observatory: Observatory, clock: Clock, *runs: str, rows: int = 10) -> None:
    """Runs that end, one after the other."""
    random = np.random.default_rng(1)
    for run in runs:
        steps = make_steps(range(rows), value=random.normal(size=(rows, 2)))
        observatory.ingest([batch(steps, run=run, events=[ending("finished")])])
        clock.now += 1.0


def test_runs_that_are_over_go_by_age_and_those_under_way_stay(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock, retention_days=1.0)
    finish(observatory, clock, "old")
    clock.now += 0.5 * DAY
    finish(observatory, clock, "new")
    observatory.ingest([batch(make_steps([0]), run="lost")])
    clock.now += 0.6 * DAY
    observatory.ingest([batch(make_steps([0]), run="live")])
    observatory.tidy()
    assert run_ids(observatory) == ["live", "lost", "new"]
    observatory.close()


def test_the_oldest_runs_go_when_they_are_too_many_unless_they_are_under_way(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock, retention_runs=2)
    observatory.ingest([batch(make_steps([0]), run="live")])
    finish(observatory, clock, "a", "b", "c")
    observatory.tidy()
    assert run_ids(observatory) == ["c", "live"]
    observatory.close()


def test_a_deleted_run_is_gone_from_everywhere_and_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock, retention_runs=1)
    finish(observatory, clock, "a", "b")
    assert b'run="a"' in observatory.render()
    observatory.tidy()
    for _ in range(2):
        assert observatory.run("a") is None
        with observatory.archive("a") as archive:
            assert archive is None
        page = observatory.render()
        assert b'run="a"' not in page
        assert read(page)["pipeline_steps_total"] == {labels(run="b", pipeline="p", rank=0): 10}
        observatory.close()
        observatory = open_observatory(tmp_path, clock, retention_runs=1)
    observatory.close()


def test_a_late_retry_does_not_bring_a_deleted_run_back(tmp_path: Path, clock: Clock) -> None:
    observatory = open_observatory(tmp_path, clock, retention_runs=1)
    finish(observatory, clock, "a", "b")
    observatory.tidy()
    retry = batch(
        make_steps(range(10)),
        run="a",
        events=[event(names.RUN_HEARTBEAT), event(names.INCIDENT), ending("finished")],
    )
    for _ in range(2):
        outcome = observatory.ingest([retry])
        assert (outcome.new_steps, outcome.duplicates) == (0, 10)
        assert run_ids(observatory) == ["b"]
        observatory.close()
        observatory = open_observatory(tmp_path, clock, retention_runs=1)
    observatory.close()


def test_a_deleted_run_that_goes_on_is_back_with_its_new_steps_only(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock, retention_runs=1)
    finish(observatory, clock, "a", "b")
    observatory.render()
    observatory.tidy()
    outcome = observatory.ingest([batch(make_steps(range(5, 12)), run="a")])
    assert (outcome.new_steps, outcome.duplicates) == (2, 5)
    samples = read(observatory.render())
    assert samples["pipeline_steps_total"][labels(run="a", pipeline="p", rank=0)] == 2
    assert samples["ingest_missing_records_total"][labels(run="a", rank=0)] == 0
    observatory.close()


@pytest.mark.parametrize("later", ["attempt", "incarnation"])
def test_a_deleted_run_that_is_started_again_is_back(
    tmp_path: Path, clock: Clock, later: str
) -> None:
    observatory = open_observatory(tmp_path, clock, retention_runs=1)
    finish(observatory, clock, "a", "b")
    observatory.tidy()
    if later == "attempt":
        observatory.ingest([batch(run="a", attempt=1, events=[event(names.RUN_START)])])
    else:
        observatory.ingest([batch(make_steps([0], incarnation="second"), run="a")])
    assert run_ids(observatory) == ["a", "b"]
    observatory.close()


def test_the_file_shrinks_when_it_is_too_large(tmp_path: Path, clock: Clock) -> None:
    limit = 1024**2
    observatory = open_observatory(tmp_path, clock, retention_bytes=limit)
    names_of_all = [f"run {i}" for i in range(12)]
    finish(observatory, clock, *names_of_all, rows=5000)
    before = observatory._history.used_bytes()
    observatory.tidy()
    kept = run_ids(observatory)
    assert kept == names_of_all[::-1][: len(kept)]
    assert 0 < len(kept) < 12
    assert observatory._history.used_bytes() <= limit < before
    observatory.close()  # what is in the log goes to the file
    assert (tmp_path / "history.sqlite").stat().st_size <= limit


def test_a_run_under_way_that_is_too_large_loses_its_oldest_steps_and_no_count(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 1024**2
    observatory = open_observatory(tmp_path, clock, retention_bytes=limit)
    random = np.random.default_rng(1)
    for first in range(0, 60_000, 1000):
        value = random.normal(size=(1000, 2))
        observatory.ingest([batch(make_steps(range(first, first + 1000), value=value))])
    for _ in range(2):
        observatory.tidy()
    assert observatory._history.used_bytes() <= limit
    assert caplog.text.count("their oldest steps are deleted, their counters go on") == 1
    (run,) = observatory.runs()
    assert (run.state, run.steps) == ("running", 60_000)
    with observatory.archive("r") as archive:
        assert archive is not None
        kept = [block.seq for stream in archive.streams for block in archive.steps(stream)]
    assert 0 < sum(map(len, kept)) < 60_000
    assert max(int(seq.max()) for seq in kept) == 59_999
    observatory.close()
    observatory = open_observatory(tmp_path, clock, retention_bytes=limit)
    assert [run.steps for run in observatory.runs()] == [60_000]
    observatory.close()


def test_a_service_killed_between_burial_and_deletion_leaves_nothing_behind(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock)
    finish(observatory, clock, "a", "b")
    record = observatory._registry.runs["b"].record
    observatory._history.bury(record.id, [], clock.now)
    observatory.close()
    observatory = open_observatory(tmp_path, clock)
    finish(observatory, clock, "c")  # gets no number of b's, whose steps are still there
    assert {run.run: run.steps for run in observatory.runs()} == {"c": 10, "a": 10}
    observatory.tidy()
    streams = observatory._history._writer.execute("SELECT DISTINCT stream FROM block").fetchall()
    assert {number for (number,) in streams} == set(observatory._registry.streams)
    observatory.close()


def test_the_steps_of_a_lost_run_are_packed(tmp_path: Path, clock: Clock) -> None:
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps(range(10)))])
    observatory.tidy()
    (stream,) = observatory._registry.streams.values()
    assert sum(stream.loose.values()) == 10
    clock.now += 100.0
    observatory.tidy()
    assert stream.loose == {}
    observatory.close()
