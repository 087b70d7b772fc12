"""What travels in one request, and when; how it is received is in ``test_watch``."""

import logging
from pathlib import Path

import numpy as np
import pytest

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._otlp import OTLPSender
from penaltyscope.telemetry._outbox import MemoryOutbox, Outbox
from penaltyscope.telemetry._spool import SpoolOutbox
from penaltyscope_events import Event, RunIdentity, StepBlock, names
from tests.end_to_end.real_parts import wait_for
from tests.lib.telemetry.receiver import Answer, receiver
from tests.lib.telemetry.test_http import OK, scripted


def steps(first: int, count: int) -> Steps:
    column, matrix = np.zeros(count), np.zeros((count, 1))
    block = StepBlock(
        pipeline="p",
        incarnation="i",
        terms=("t",),
        step=np.arange(first, first + count),
        seq=np.arange(first, first + count),
        stop_ns=np.full(count, 10**18),
        duration=column,
        base=column,
        has_base=column > 0,
        total=column,
        total_gradient_norm=column,
        value=matrix,
        weight=matrix,
        contribution=matrix,
        gradient_norm=matrix,
        flags=np.zeros((count, 1), np.int32),
    )
    return Steps(block, (None,) * count)


def sender(url: str, outbox: Outbox | None = None) -> OTLPSender:
    destination = Destination(url=url + "/v1/logs")
    identity = RunIdentity(run_id="r")
    return OTLPSender(destination, identity, outbox=outbox)


def at_rest(url: str, outbox: Outbox | None = None) -> OTLPSender:
    """A sender with a connection, whose thread has nothing to do."""
    channel = sender(url, outbox)
    channel.send([steps(0, 2)], [])
    assert channel.flush(20)
    wait_for("the thread to rest", lambda: not channel._working)
    return channel


def answered(channel: OTLPSender) -> None:
    """Waits until the answer to what is underway, or the end of the connection, is there."""
    stream = channel._receiver._connection._stream
    assert stream is not None
    wait_for("an answer", stream.readable)


def test_what_is_taken_goes_at_once() -> None:
    with receiver() as there:
        channel = sender(there.url)
        channel.send([steps(0, 2)], [])
        there.wait_for_attempts(1)
        channel.send([], [Event(name=names.RUN_HEARTBEAT, time_ns=1)])
        there.wait_for_attempts(2)
        channel.close(2)


def test_what_comes_while_a_request_is_underway_travels_in_the_next() -> None:
    with receiver() as there:
        channel = sender(there.url)
        with there.changed:  # without which nothing is answered
            for first in range(0, 640, 64):
                channel.send([steps(first, 64)], [])
        assert channel.flush(20)
        assert len(there.requests) <= 2
        assert there.steps() == list(range(640))
        channel.close(2)


def test_events_and_steps_that_come_together_travel_together_the_events_first() -> None:
    with receiver() as there:
        channel = sender(there.url)
        channel.send([steps(0, 2)], [Event(name=names.RUN_START, time_ns=1)])
        assert channel.flush(20)
        assert len(there.requests) == 1
        assert there.events()[0] == names.RUN_START
        assert there.steps() == [0, 1]
        channel.close(2)


def test_a_long_backlog_is_cut_into_requests_that_a_receiver_takes() -> None:
    with receiver() as there:
        channel = sender(there.url)
        for first in range(0, 64 * 80, 64):
            channel.send([steps(first, 64)], [])
        assert channel.flush(20)
        assert there.steps() == list(range(64 * 80))
        sizes = [request.ByteSize() for request in there.requests]
        assert len(sizes) > 2
        assert max(sizes) <= 1.01 * 2**20
        channel.close(2)


def test_without_room_the_oldest_are_given_up_and_counted() -> None:
    channel = sender("http://127.0.0.1:9", MemoryOutbox(1000))
    for first in range(0, 64 * 80, 64):
        channel.send([steps(first, 64)], [])
    assert 0 < channel.lost_steps < 64 * 80
    assert channel.lost_steps % 64 == 0
    channel.close(0)
    assert channel.lost_steps == 64 * 80


def test_where_nothing_has_to_be_waited_for_the_thread_has_nothing_to_do() -> None:
    with receiver() as there:
        channel = at_rest(there.url)
        for attempt in range(2, 5):
            channel.send([steps(2 * attempt - 2, 2)], [])
            assert not channel._working
            there.wait_for_attempts(attempt)
            answered(channel)
        channel.close(2)
        assert there.steps() == list(range(8))
        assert len(there.requests) == 4
        assert channel.lost_steps == 0


def test_what_was_not_acknowledged_stays_and_closing_waits_for_the_answer(tmp_path: Path) -> None:
    outbox = SpoolOutbox(tmp_path, "process", max_bytes=1 << 20)
    with receiver() as there:
        channel = at_rest(there.url, outbox)
        with there.changed:  # without which nothing is answered
            channel.send([steps(2, 2)], [])
            assert len(outbox) == 1
            assert [path.stat().st_size > 0 for path in tmp_path.glob("*/*.otlp")] == [True]
        channel.close(20)
        assert channel.lost_steps == 0
        assert there.steps() == list(range(4))
    assert list(tmp_path.iterdir()) == []


def test_what_the_connection_was_closed_on_goes_over_the_next_before_what_came_later() -> None:
    with scripted([OK, b""], [OK, OK]) as script:
        channel = at_rest(script.url.removesuffix("/v1/logs"))
        channel.send([steps(2, 2)], [])
        assert script.closed.acquire(timeout=20)
        channel.send([steps(4, 3)], [])
        assert channel.flush(20)
        lengths = [int(head.rpartition(b": ")[2]) for head in script.heads]
        assert lengths[1] == lengths[2] < lengths[3]
        assert channel.lost_steps == 0
        channel.close(2)


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_asks_for_patience_is_obeyed_by_the_thread(status: int) -> None:
    with receiver(Answer(), Answer(status), Answer(status)) as there:
        channel = at_rest(there.url)
        channel.send([steps(2, 2)], [])
        answered(channel)
        channel.send([steps(4, 2)], [])
        assert channel._working
        assert channel.flush(20)
        assert there.steps() == list(range(6))
        assert channel.lost_steps == 0
        channel.close(2)


def test_a_refusal_is_counted_and_what_comes_later_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR), receiver(Answer(), Answer(400, body=b"no")) as there:
        channel = at_rest(there.url)
        channel.send([steps(2, 2)], [])
        answered(channel)
        channel.send([steps(4, 2)], [])
        assert channel.flush(20)
        assert channel.lost_steps == 2
        assert there.steps() == [0, 1, 4, 5]
        channel.close(2)
    assert ["refused 2 steps with HTTP 400: no" in text for text in caplog.messages] == [True]
