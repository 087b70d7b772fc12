"""What travels in one request, and when; how it is received is in ``test_watch``."""

import numpy as np

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._otlp import OTLPSender
from penaltyscope.telemetry._outbox import MemoryOutbox, Outbox
from penaltyscope_events import Event, RunIdentity, StepBlock, names
from tests.lib.telemetry.receiver import receiver


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
