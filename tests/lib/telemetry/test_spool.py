"""Requests on disk: the outbox alone, and watches that die and come back."""

import logging
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import penaltyscope as ps
from penaltyscope.telemetry._outbox import MemoryOutbox, Outbox, Request
from penaltyscope.telemetry._spool import SpoolOutbox
from penaltyscope_events import names, spool
from tests.killed import killed
from tests.lib.telemetry.receiver import Answer, receiver


def spooled(directory: Path, stem: str = "a", *, segments: int = 8) -> SpoolOutbox:
    """With room for so many segments of two requests each."""
    return SpoolOutbox(directory, stem, max_bytes=200 * segments, segment_bytes=200)


def request(number: int) -> Request:
    return Request(number.to_bytes(4, "big") * 25, steps=1)


def drained(outbox: Outbox) -> list[int]:
    numbers = []
    while (first := outbox.first()) is not None:
        numbers.append(int.from_bytes(first.body[:4], "big"))
        outbox.drop_first()
    return numbers


@pytest.mark.parametrize("make", [lambda _: MemoryOutbox(1600), spooled])
def test_requests_come_out_whole_and_in_order(
    tmp_path: Path, make: Callable[[Path], Outbox]
) -> None:
    outbox = make(tmp_path)
    assert outbox.first() is None
    for i in range(10):
        outbox.append(request(i))
    assert len(outbox) == 10
    assert drained(outbox) == list(range(10))
    assert (len(outbox), outbox.lost_steps, outbox.close()) == (0, 0, 0)


@pytest.mark.parametrize("make", [lambda _: MemoryOutbox(1600), spooled])
def test_without_room_the_oldest_go_but_not_the_one_that_is_being_sent(
    tmp_path: Path, make: Callable[[Path], Outbox]
) -> None:
    outbox = make(tmp_path)
    for i in range(40):
        outbox.append(request(i))
    left = drained(outbox)
    assert left[0] == 0
    assert left[1:] == list(range(left[1], 40))
    assert len(left) in (15, 16)
    assert outbox.lost_steps == 40 - len(left)


def test_nothing_stays_on_disk_of_what_was_answered(tmp_path: Path) -> None:
    outbox = spooled(tmp_path)
    for i in range(5):
        outbox.append(request(i))
        assert drained(outbox) == [i]
    (segment,) = spool.segments(tmp_path / "a")
    assert segment.stat().st_size == 0
    outbox.append(request(5))
    assert drained(outbox) == [5], "its place in the file begins anew"
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_what_one_process_leaves_the_next_sends_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = spooled(tmp_path)
    for i in range(5):
        first.append(request(i))
    assert first.close() == 0, "nothing is lost"
    assert f"5 steps wait in {tmp_path}" in caplog.text
    second = spooled(tmp_path, "b")
    second.append(request(5))
    assert drained(second) == [0, 1, 2, 3, 4, 5]
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_has_is_left_to_it(tmp_path: Path) -> None:
    living = spooled(tmp_path)
    living.append(request(0))
    other = spooled(tmp_path, "b")
    assert drained(other) == []
    assert drained(living) == [0]


def test_half_a_request_at_the_end_of_a_segment_is_passed_over(tmp_path: Path) -> None:
    first = spooled(tmp_path)
    for i in range(3):
        first.append(request(i))
    first.close()
    last = spool.segments(tmp_path / "a")[-1]
    os.truncate(last, last.stat().st_size - 1)
    assert drained(spooled(tmp_path, "b")) == [0, 1]
    assert not (tmp_path / "a").exists()


def test_a_request_whose_bytes_have_changed_is_lost_and_the_next_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = spooled(tmp_path)
    for i in range(3):
        outbox.append(request(i))
    with spool.segments(tmp_path / "a")[0].open("r+b") as file:
        file.seek(50)
        file.write(b"?")
    assert drained(outbox) == [1, 2]
    assert outbox.lost_steps == 1
    assert "cannot be read" in caplog.text


def test_where_the_disk_is_full_requests_wait_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = SpoolOutbox(tmp_path, "a", max_bytes=10**6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        for i in range(6):
            outbox.append(request(i))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    outbox.append(request(6))
    assert caplog.text.count("requests wait in memory") == 1
    assert drained(outbox) == list(range(7))
    outbox.append(request(7))
    assert outbox.close() == 0
    assert drained(spooled(tmp_path, "b")) == [7]


def test_a_directory_that_cannot_be_made_costs_the_spool_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    x = torch.ones(2, requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    with (
        receiver() as there,
        ps.watch(pipeline, endpoint=there.url, spool=tmp_path / "file") as run,
    ):
        pipeline(x).loss.backward()
        assert run.flush()
        assert there.steps() == [0]
    assert "requests wait in memory" in caplog.text


def test_a_size_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    sink = ps.telemetry.OTLP(spool=tmp_path, spool_bytes=0)
    with pytest.raises(ValueError, match="spool_bytes must be positive, got 0"):
        ps.watch(ps.Pipeline([ps.Term("size", ps.l2)]), sinks=[sink])


def test_a_run_that_ends_while_nobody_listens_is_delivered_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PENALTYSCOPE_SPOOL", str(tmp_path))
    x = torch.ones(2, requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    with (
        caplog.at_level(logging.WARNING),
        ps.watch(pipeline, run="first", endpoint="http://127.0.0.1:9") as run,
    ):
        for _ in range(100):
            pipeline(x).loss.backward()
    assert run.dropped_steps == 0
    assert f"100 steps wait in {tmp_path}" in caplog.text
    # Written compressed, they are sent as this watch is told to.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with receiver() as there, ps.watch(pipeline, run="second", endpoint=there.url) as run:
        pipeline(x).loss.backward()
        assert run.flush()
        assert there.steps() == list(range(101))
        assert "content-encoding" not in there.headers[0]
    assert there.events().count(names.RUN_END) == 2
    assert list(tmp_path.iterdir()) == []


def test_while_the_receiver_is_busy_requests_are_on_disk_and_arrive_once(tmp_path: Path) -> None:
    x = torch.ones(2, requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    busy = [Answer(503, {"retry-after": "0"}), Answer(429)]
    with receiver(*busy) as there:
        with ps.watch(pipeline, endpoint=there.url, spool=tmp_path) as run:
            for _ in range(130):
                pipeline(x).loss.backward()
            assert run.flush(20)
        assert there.steps() == list(range(130))
    assert list(tmp_path.iterdir()) == []


def steps_in(directory: Path) -> int:
    return sum(
        frame.steps
        for process in spool.processes(directory)
        for segment in spool.segments(process)
        for frame in spool.frames(segment)
    )


def test_kill_9_leaves_every_drained_step_to_the_next_watch(tmp_path: Path) -> None:
    arguments = f'endpoint="http://127.0.0.1:9", spool={str(tmp_path)!r}'
    with killed(arguments, flush_seconds=0.01):  # drains; nobody is there to deliver to
        assert spool.lock(spool.processes(tmp_path)[0]) is None, "the process is alive"
    left = steps_in(tmp_path)
    assert left >= 200
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    with receiver() as there, ps.watch(pipeline, endpoint=there.url, spool=tmp_path) as run:
        deadline = time.monotonic() + 20
        assert run.flush(deadline - time.monotonic())
        assert there.steps() == list(range(left))
    assert list(tmp_path.iterdir()) == []
