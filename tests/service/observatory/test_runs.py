"""What an observatory says about runs, while it takes steps or afterwards."""

import threading

import pytest

from penaltyscope_events import names
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.summary import FirstNonfinite
from tests.service.observed import Clock, batch, ending, event, read
from tests.service.steps import NAN, make_steps


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


def test_readers_are_served_while_steps_come_in(observatory: Observatory) -> None:
    failures: list[BaseException] = []
    done = threading.Event()
    looks: list[int] = []

    def watch() -> None:
        seen = [0.0]
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
            looks.append(len(seen))
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
    assert min(looks) > 2
    total = sum(read(observatory.render())["pipeline_steps_total"].values())
    assert total == 5000


def test_what_nobody_looks_at_does_not_pile_up_in_memory(observatory: Observatory) -> None:
    steps = make_steps(range(500), ["a"])
    for first in range(0, 550, 50):
        observatory.ingest([batch(steps, run=f"run {first + i}") for i in range(50)])
    streams = observatory._registry.streams.values()
    assert sum(stream.waiting_rows for stream in streams) < 2**18 < 550 * 500
    assert {run.steps for run in observatory.runs()} == {500}


def test_a_list_of_many_runs_is_the_same_before_and_after_all_steps_were_aggregated(
    observatory: Observatory,
) -> None:
    many = [f"run {i}" for i in range(150)]
    for run in many:
        observatory.ingest([batch(make_steps(range(3)), rank=rank, run=run) for rank in (0, 1)])
        bad = make_steps([3], value=[[1.0, NAN]])
        observatory.ingest([batch(bad, run=run, rank=1)])
    glanced = observatory.runs()
    for run in many:
        assert observatory.run(run) is not None  # which aggregates its steps
    assert observatory.runs() == glanced
    assert {(run.steps, run.nonfinite_steps, run.last_step) for run in glanced} == {(7, 1, 3)}
