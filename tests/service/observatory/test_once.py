"""Every step counts once, and a request counts as a whole or not at all."""

import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penaltyscope_events import names
from penaltyscope_service.dedupe import MAX_SEQ
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.summary import Failure
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
from tests.service.steps import make_steps


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
    assert [run.steps for run in observatory.runs()] == [6]
    duplicates = read(observatory.render())["ingest_duplicate_records_total"]
    assert duplicates == {labels(run="r", rank=0): 20}
    observatory.close()


@pytest.mark.parametrize("all_packed", [False, True])
def test_what_came_since_steps_were_packed_counts_once_after_a_restart(
    tmp_path: Path, clock: Clock, *, all_packed: bool
) -> None:
    observatory = open_observatory(tmp_path, clock)
    sent = [batch(make_steps(range(first, first + 600))) for first in range(0, 3000, 600)]
    for one in sent:
        assert observatory.ingest([one]).new_steps == 600
    (stream,) = observatory._registry.streams.values()
    assert 0 < sum(stream.loose.values()) < 1024  # the others were packed meanwhile
    if all_packed:
        clock.now += 100.0
        observatory.tidy()
        assert stream.loose == {}
    for _ in range(2):
        observatory.close()
        observatory = open_observatory(tmp_path, clock)
        outcome = observatory.ingest(sent)
        assert (outcome.new_steps, outcome.duplicates) == (0, 3000)
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


@settings(deadline=None, max_examples=25)
@given(
    order=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    cuts=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(["go on", "start again", "pack"])), max_size=6
    ),
)
def test_any_order_repetition_and_batching_counts_every_step_once(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[tuple[int, str]]
) -> None:
    folder, clock = tmp_path_factory.mktemp("any"), Clock()
    observatory = open_observatory(folder, clock)
    edges = sorted({0, len(order), *(min(cut, len(order)) for cut, _ in cuts)})
    between = {(min(cut, len(order)), what) for cut, what in cuts}
    for start, stop in pairwise(edges):
        observatory.ingest([batch(make_steps([seq])) for seq in order[start:stop]])
        if (stop, "pack") in between:
            clock.now += 100.0  # the run is lost, and its steps will not be any more
            observatory.tidy()
        if (stop, "start again") in between:
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
    with pytest.raises(ValueError, match="invalid literal"):
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


@pytest.mark.parametrize(("damage", "left"), [("payload = x'00'", 1000), ("rows = 999", 999)])
def test_a_damaged_block_does_not_keep_other_streams_from_being_packed(
    observatory: Observatory, caplog: pytest.LogCaptureFixture, damage: str, left: int
) -> None:
    writer = observatory._history._writer
    observatory.ingest([batch(make_steps(range(1000)), run=run) for run in ("a", "b")])
    observatory.render()  # what was looked at is not in memory any more
    damaged = observatory._registry.runs["a"].streams[0, "p"].row.id
    writer.execute(f"UPDATE block SET {damage} WHERE stream = ?", (damaged,))
    observatory.ingest([batch(make_steps(range(1000, 1024)), run=run) for run in ("a", "b")])
    assert f"blocks of stream {damaged} cannot be packed" in caplog.text
    heads = writer.execute("SELECT stream = ?, packed, rows FROM block ORDER BY id", (damaged,))
    assert heads.fetchall() == [(1, 0, left), (1, 0, 24), (0, 1, 1024)]
