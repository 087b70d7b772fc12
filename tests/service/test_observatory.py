"""The state of a shard: nothing twice, nothing lost, nothing by halves."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penaltyscope_events import names
from penaltyscope_service.decode import Batch
from penaltyscope_service.dedupe import MAX_SEQ
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.summary import Failure, FirstNonfinite
from tests.service.ingesting import ROWS, RUNS
from tests.service.observed import (
    Clock,
    batch,
    ending,
    event,
    labels,
    open_observatory,
    read,
)
from tests.service.steps import NAN, make_steps

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observatory(tmp_path: Path, clock: Clock) -> Iterator[Observatory]:
    observatory = open_observatory(tmp_path, clock)
    yield observatory
    observatory.close()


def counters(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The counters and histograms of a page, exactly."""
    ends = ("_total", "_bucket", "_sum", "_count")
    own = ("series_refused_total",)
    samples = read(text)
    return {name: s for name, s in samples.items() if name.endswith(ends) and name not in own}


def steps_of(observatory: Observatory, run: str = "r") -> int:
    detail = observatory.run(run)
    return detail.steps if detail else 0


# Once


def test_a_step_counts_once_in_one_request_in_a_later_one_and_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock)
    steps = make_steps(range(5))
    outcome = observatory.ingest([batch(steps, steps), batch(steps)])
    assert (outcome.new_steps, outcome.duplicates) == (5, 10)
    outcome = observatory.ingest([batch(steps, make_steps([5]))])
    assert (outcome.new_steps, outcome.duplicates) == (1, 5)
    observatory.close()
    observatory = open_observatory(tmp_path, clock)
    outcome = observatory.ingest([batch(steps)])
    assert (outcome.new_steps, outcome.duplicates) == (0, 5)
    assert steps_of(observatory) == 6
    duplicates = read(observatory.render())["ingest_duplicate_records_total"]
    assert duplicates == {labels(run="r", rank=0): 20}
    observatory.close()


def test_the_same_numbers_of_other_sources_are_other_steps(observatory: Observatory) -> None:
    steps = make_steps([0])
    outcome = observatory.ingest(
        [
            batch(steps),
            batch(steps, run="other"),
            batch(steps, rank=1),
            batch(replace(steps, pipeline="q"), replace(steps, incarnation="second")),
        ]
    )
    assert (outcome.new_steps, outcome.duplicates) == (5, 0)


def test_an_exception_takes_its_number_and_leaves_no_gap(tmp_path: Path, clock: Clock) -> None:
    observatory = open_observatory(tmp_path, clock, gap_seconds=10.0)
    raised = event(
        names.PIPELINE_EXCEPTION,
        pipeline="p",
        step=1,
        seq=1,
        incarnation="first",
        exception_type="ValueError",
        exception_message="no",
    )
    observatory.ingest([batch(make_steps([0, 2]), events=[raised])])
    assert observatory.ingest([batch(events=[raised])]).duplicates == 1
    clock.now += 11.0
    missing = read(observatory.render())["ingest_missing_records_total"]
    assert missing == {labels(run="r", rank=0): 0}
    (run,) = observatory.runs()
    assert (run.steps, run.exception) == (2, Failure(type="ValueError", message="no"))
    observatory.close()


def test_numbers_that_cannot_be_counted_are_refused_and_the_others_kept(
    observatory: Observatory,
) -> None:
    raised = event(
        names.PIPELINE_EXCEPTION, pipeline="p", step=1, seq=MAX_SEQ + 1, incarnation="first"
    )
    outcome = observatory.ingest([batch(make_steps([0, MAX_SEQ + 1]), events=[raised])])
    assert (outcome.new_steps, outcome.refused) == (1, {"invalid_value": 2})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    order=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    cuts=st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=6),
)
def test_any_order_repetition_and_batching_counts_every_step_once(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[tuple[int, bool]]
) -> None:
    folder, clock = tmp_path_factory.mktemp("any"), Clock()
    observatory = open_observatory(folder, clock)
    edges = sorted({0, len(order), *(min(cut, len(order)) for cut, _ in cuts)})
    restarts = {min(cut, len(order)) for cut, restart in cuts if restart}
    for start, stop in pairwise(edges):
        observatory.ingest([batch(make_steps([seq])) for seq in order[start:stop]])
        if stop in restarts:
            observatory.close()
            observatory = open_observatory(folder, clock)
    kept = list(dict.fromkeys(order))
    samples = read(observatory.render())
    assert samples["pipeline_steps_total"] == {labels(run="r", pipeline="p", rank=0): len(kept)}
    assert samples["run_last_step"] == {labels(run="r", rank=0): max(kept)}
    duplicates = samples["ingest_duplicate_records_total"]
    assert duplicates == {labels(run="r", rank=0): len(order) - len(kept)}
    series = observatory.series(
        "r",
        pipeline=None,
        rank=0,
        terms=["a"],
        quantities=["value"],
        from_step=None,
        to_step=None,
        points=100,
    )
    assert series.series[0].step.tolist() == sorted(kept)
    observatory.close()


# All or nothing


def test_a_full_disk_changes_nothing_and_the_same_batch_can_be_sent_again(
    tmp_path: Path, clock: Clock
) -> None:
    observatory = open_observatory(tmp_path, clock)
    observatory.ingest([batch(make_steps([0]))])
    before, runs = counters(observatory.render()), observatory.runs()
    writer = observatory._history._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    big = [
        batch(make_steps(range(1, 3000)), rank=1, events=[event(names.INCIDENT)]),
        batch(make_steps(range(3000)), run="new", events=[ending("failed")]),
    ]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        observatory.ingest(big)
    assert counters(observatory.render()) == before
    assert observatory.runs() == runs
    writer.execute("PRAGMA max_page_count = 100000")
    outcome = observatory.ingest(big)
    assert (outcome.new_steps, outcome.duplicates) == (5999, 0)
    assert {run.run: run.steps for run in observatory.runs()} == {"r": 3000, "new": 3000}
    observatory.close()


def test_a_batch_that_cannot_be_taken_changes_nothing(observatory: Observatory) -> None:
    broken = replace(make_steps([1]), seq=np.array(["x"]))
    with pytest.raises(TypeError):
        observatory.ingest([batch(make_steps([0])), batch(broken)])
    assert observatory.runs() == []
    assert observatory.ingest([batch(make_steps([0]))]).new_steps == 1


def test_blocks_that_cannot_be_packed_are_kept_small(
    observatory: Observatory, caplog: pytest.LogCaptureFixture
) -> None:
    writer = observatory._history._writer
    writer.execute("ALTER TABLE rollup RENAME TO gone")
    outcome = observatory.ingest([batch(make_steps(range(2000)))])
    assert outcome.new_steps == 2000
    assert "cannot be packed" in caplog.text
    writer.execute("ALTER TABLE gone RENAME TO rollup")
    observatory.ingest([batch(make_steps([2000]))])
    heads = writer.execute("SELECT packed, rows FROM block ORDER BY id").fetchall()
    assert heads == [(1, 1024), (0, 977)]


# After a restart


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
        rest, _ = process.communicate(timeout=30)
        acknowledged = int((rest.split() or [acknowledged])[-1])
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
    clock.now += 31.0
    assert {run.state for run in observatory.runs()} == {"lost"}
    observatory.close()


# Runs


def test_a_run_begins_with_any_record(observatory: Observatory, clock: Clock) -> None:
    observatory.ingest([batch(run="steps", rank=4, events=[event(names.RUN_HEARTBEAT)])])
    (run,) = observatory.runs()
    assert (run.state, run.ranks, run.steps, run.pipelines) == ("running", (4,), 0, ())
    assert (run.started_at, run.last_received_at) == (clock.now, clock.now)
    assert (run.last_step, run.step_interval_seconds, run.first_nonfinite) == (None, None, None)


def test_runs_are_listed_newest_first(observatory: Observatory) -> None:
    for run in ("b", "a", "c"):
        observatory.ingest([batch(make_steps([0]), run=run)])
    observatory.ingest([batch(make_steps([1]), run="b")])
    assert [run.run for run in observatory.runs()] == ["c", "a", "b"]


def test_the_first_finding_is_the_earliest_of_all_ranks(observatory: Observatory) -> None:
    good, bad = make_steps(range(5)), make_steps(range(5, 8), value=[[1.0, NAN]] * 3)
    for rank in (3, 1, 2):
        observatory.ingest([batch(good, bad, rank=rank)])
    (run,) = observatory.runs()
    assert run.first_nonfinite == FirstNonfinite(
        step=5, pipeline="p", term="b", stage="value", kind="nan", rank=1, time=1e9 + 0.5
    )
    assert (run.nonfinite_steps, run.steps) == (9, 24)


def test_a_run_in_detail_has_the_last_numbers_be_they_finite_or_not(
    observatory: Observatory,
) -> None:
    steps = make_steps([0, 1], value=[[1.0, 2.0], [3.0, NAN]], norm=[[1.0, 3.0], [1.0, 2.0]])
    observatory.ingest([batch(steps)])
    run = observatory.run("r")
    assert run is not None
    (pipeline,) = run.pipelines
    a, b = pipeline.terms
    assert (a.term, a.value, a.weight, a.contribution, a.gradient_norm) == ("a", 3.0, 0.5, 1.5, 1.0)
    assert (a.last_nonfinite_step, b.last_nonfinite_step) == (None, 1)
    assert repr((b.value, b.contribution, pipeline.total, pipeline.loss)) == repr((NAN,) * 4)
    assert b.nonfinite == {
        "input": {"nan": 0, "inf": 0},
        "value": {"nan": 1, "inf": 0},
        "gradient": {"nan": 0, "inf": 0},
    }
    assert a.gradient_share == pytest.approx(1 / 3)
    assert (pipeline.base, pipeline.total_gradient_norm) == (1.0, 3.0)
    assert (pipeline.duration_seconds, pipeline.last_step) == (0.01, 1)
    assert observatory.run("unknown") is None


def test_a_resumed_run_shows_the_step_that_it_has_now(observatory: Observatory) -> None:
    observatory.ingest([batch(make_steps(range(50, 60)), events=[ending("failed")])])
    assert [run.state for run in observatory.runs()] == ["failed"]
    again = make_steps(range(3), step=[40, 41, 42], incarnation="second")
    observatory.ingest([batch(again, attempt=1)])
    (run,) = observatory.runs()
    assert (run.state, run.attempt, run.last_step, run.steps) == ("running", 1, 42, 13)


def test_steps_of_a_new_incarnation_start_a_run_again_that_had_ended(
    observatory: Observatory,
) -> None:
    observatory.ingest([batch(make_steps([0]), events=[ending("finished", second=10**9 + 1)])])
    observatory.ingest([batch(make_steps([1]))])  # a late word of the same process
    assert [run.state for run in observatory.runs()] == ["finished"]
    again = make_steps([0], incarnation="second", stop_ns=2 * 10**18)
    observatory.ingest([batch(again)])
    assert [run.state for run in observatory.runs()] == ["running"]


# Together


def test_readers_are_served_while_steps_come_in(observatory: Observatory) -> None:
    failures: list[BaseException] = []
    done = threading.Event()
    seen: list[float] = [0.0]

    def watch() -> None:
        try:
            while not done.is_set():
                samples = read(observatory.render())
                steps = sum(samples.get("pipeline_steps_total", {}).values())
                assert steps >= seen[-1]
                seen.append(steps)
                for run in observatory.runs():
                    observatory.run(run.run)
                    observatory.series(
                        run.run,
                        pipeline=None,
                        rank=0,
                        terms=[],
                        quantities=[],
                        from_step=None,
                        to_step=None,
                        points=50,
                    )
                observatory.check()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(100):
        run = f"run {i % 3}"
        terms = ["a", f"term {i // 10}"]
        steps = make_steps(range(i // 3 * 50, i // 3 * 50 + 50), terms)
        observatory.ingest([batch(steps, run=run)])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(seen) > 2
    total = sum(read(observatory.render())["pipeline_steps_total"].values())
    assert total == 5000
