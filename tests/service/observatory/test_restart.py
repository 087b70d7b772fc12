"""A service that starts again, whatever ended it, goes on where it was."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penaltyscope_events import names
from penaltyscope_service.decode import Batch
from tests.service.ingesting import ROWS, RUNS
from tests.service.observed import (
    Clock,
    batch,
    counters,
    ending,
    event,
    labels,
    open_observatory,
    read,
)
from tests.service.steps import NAN, make_steps

ROOT = Path(__file__).parents[3]


def eventful(clock: Clock) -> Iterator[list[Batch]]:
    """Batches of several runs with all that can happen, in the order in which they come."""
    random = np.random.default_rng(7)
    for i in range(40):
        clock.now += 0.9
        value = random.normal(size=(70, 2))
        value[random.random((70, 2)) < 0.01] = NAN
        steps = make_steps(
            range(i * 70, i * 70 + 70),
            value=value,
            norm=random.lognormal(size=(70, 2), sigma=9),
            duration=random.random(70),
        )
        late = make_steps(range(5000 + i * 3, 5000 + i * 3 + 2), ["b", "c"])
        yield [
            batch(steps, late, events=[event(names.RUN_HEARTBEAT, i, dropped_steps=i)]),
            batch(steps, rank=1),
            batch(make_steps([i]), run=f"run {i % 7}", events=[event(names.INCIDENT, i)]),
        ]
    yield [batch(run="run 3", events=[ending("failed")]), batch(events=[ending("finished")])]


def test_a_restarted_service_shows_the_same_page(tmp_path: Path, clock: Clock) -> None:
    observatory = open_observatory(tmp_path, clock)
    for i, batches in enumerate(eventful(clock)):
        observatory.ingest(batches)
        if i % 11 == 0:
            observatory.render()  # looking makes no difference
    before, runs = observatory.render(), observatory.runs()
    details = [observatory.run(run.run) for run in runs]
    observatory.close()
    observatory = open_observatory(tmp_path, clock)
    assert _without_size(observatory.render()) == _without_size(before)
    assert observatory.runs() == runs
    assert [observatory.run(run.run) for run in runs] == details
    observatory.close()


def test_aggregates_that_an_older_version_stored_are_made_anew_from_all_steps(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock)
    for batches in eventful(clock):
        observatory.ingest(batches)
    before, runs = counters(observatory.render()), observatory.runs()
    older = b"\0" * 8
    observatory._history._writer.execute("UPDATE stream SET aggregate = ?", (older,))
    observatory.close()
    observatory = open_observatory(tmp_path, clock)
    after = counters(observatory.render())
    assert observatory.runs() == runs
    for name in before:
        # Packed blocks of different terms are in another order, in which sums round otherwise.
        exact = not name.endswith("_sum")
        assert after[name] == (before[name] if exact else pytest.approx(before[name], rel=1e-12))
    observatory.close()


def _without_size(page: bytes) -> bytes:
    lines = page.splitlines()
    return b"\n".join(line for line in lines if not line.startswith(b"penaltyscope_history_size"))


def test_counters_go_on_after_a_restart_as_if_there_had_been_none(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "always").mkdir()
    always = open_observatory(tmp_path / "always", clock)
    restarted = open_observatory(tmp_path / "restarted", clock)
    for i, batches in enumerate(eventful(clock)):
        always.ingest(batches)
        restarted.ingest(batches)
        if i % 9 == 0:
            restarted.close()
            restarted = open_observatory(tmp_path / "restarted", clock)
    assert counters(restarted.render()) == counters(always.render())
    for observatory in (always, restarted):
        observatory.close()


def test_a_killed_service_has_every_step_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    acknowledged = 0
    for _ in range(3):
        before = acknowledged
        command = [sys.executable, "-m", "tests.service.ingesting", str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            while acknowledged < before + 30 * ROWS:
                acknowledged = int(process.stdout.readline())
        finally:
            process.kill()
        # Not communicate(), which knows nothing of the lines that readline() has read ahead.
        with process.stdout as output:
            rest = output.read()
        process.wait(timeout=30)
        acknowledged = max([acknowledged, *map(int, rest.split())])
        observatory = open_observatory(tmp_path)
        samples = read(observatory.render())
        for run in RUNS:
            kept = samples["pipeline_steps_total"][labels(run=run, pipeline="p", rank=0)]
            # What was being written when the end came is there as a whole, or not at all.
            assert kept in (acknowledged, acknowledged + ROWS)
            batches = kept / ROWS
            series = observatory.series(
                run,
                pipeline="p",
                rank=0,
                terms=["a"],
                quantities=["value"],
                from_step=None,
                to_step=None,
                points=100_000,
            )
            assert series.series[0].step.tolist() == list(range(int(kept)))
            bad = labels(run=run, pipeline="p", rank=0, term="a", stage="value", kind="nan")
            assert samples["nonfinite_total"][bad] == kept
            twice = samples["ingest_duplicate_records_total"][labels(run=run, rank=0)]
            assert twice == 5 * batches
        acknowledged = int(kept)
        observatory.close()


def test_a_run_is_not_lost_because_the_service_was_down(tmp_path: Path, clock: Clock) -> None:
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps([0]), run="dead")])
    clock.now += 100.0
    observatory.ingest([batch(make_steps([0]), run="alive")])
    observatory.close()
    clock.now += 5000.0
    observatory = open_observatory(tmp_path, clock)
    assert [(run.run, run.state) for run in observatory.runs()] == [
        ("alive", "running"),
        ("dead", "lost"),
    ]
    clock.now += 32.0  # when it was heard of is known to a second
    assert {run.state for run in observatory.runs()} == {"lost"}
    observatory.close()
