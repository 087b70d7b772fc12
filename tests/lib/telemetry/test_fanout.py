"""Lanes, one or several: what one channel does is nothing to the others."""

import logging
import threading
import time

import pytest

from penaltyscope.telemetry._fanout import FanOut
from penaltyscope.telemetry._lane import Lane
from penaltyscope_events import Event
from tests.lib.telemetry.kept import Kept, steps

EVENT = Event(name="x", time_ns=0)


def test_every_channel_gets_everything_in_order() -> None:
    first, second = Kept(), Kept()
    out = FanOut([("first", first), ("second", second)])
    out.send([], [EVENT])
    for i in range(10):
        out.send([steps(i)], [])
    assert out.flush(10)
    assert first.steps == second.steps == list(range(10))
    assert first.events == ["x"]
    out.close(10)
    assert first.closed
    assert second.closed
    assert out.lost_steps == 0


def test_a_channel_that_stands_still_holds_up_no_other() -> None:
    slow, quick = Kept(), Kept()
    slow.open.clear()
    out = FanOut([("slow", slow), ("quick", quick)])
    out.send([steps(0, 1)], [])
    assert not out.flush(0.01)
    out.close(0.1)
    assert quick.steps == [0, 1]
    assert quick.closed
    assert not slow.closed
    slow.open.set()


def test_closing_waits_no_longer_than_it_is_told_to(caplog: pytest.LogCaptureFixture) -> None:
    stuck = [Kept(), Kept(), Kept()]
    for channel in stuck:
        channel.open.clear()
    out = FanOut([(f"stuck {i}", channel) for i, channel in enumerate(stuck)])
    out.send([steps(0)], [])
    out.send([steps(1)], [])
    started = time.monotonic()
    out.close(0.2)
    # A bound that the interface promises for all together, with grace for a loaded machine.
    assert time.monotonic() - started < 1
    assert "1 steps were not delivered by stuck 0" in caplog.text
    assert out.lost_steps == 1
    for channel in stuck:
        channel.open.set()


def test_an_error_is_logged_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    channel = Kept(error=OSError("disk full"))
    lane = Lane(channel, name="file")
    for i in range(3):
        lane.send([steps(2 * i, 2 * i + 1)], [])
    assert lane.flush(10)
    assert lane.lost_steps == 6
    failures = [r for r in caplog.records if "file failed" in r.message]
    assert len(failures) == 1
    assert "disk full" in caplog.text
    channel.error = None
    lane.send([steps(6)], [])
    lane.close(10)
    assert channel.steps == [6]


def test_when_there_is_no_room_the_oldest_steps_go_and_events_stay() -> None:
    channel = Kept()
    lane = Lane(channel, name="slow", max_steps=4)
    channel.open.clear()
    lane.send([steps(-1)], [])  # the one that the thread is busy with
    deadline = time.monotonic() + 10
    while lane._waiting and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    lane.send([], [EVENT])
    for i in range(6):
        lane.send([steps(i)], [])
    channel.open.set()
    assert lane.flush(10)
    assert channel.steps == [-1, 2, 3, 4, 5]
    assert channel.events == ["x"]
    assert lane.lost_steps == 2
    lane.close(10)


def test_what_the_channel_lost_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    out = FanOut([("a", Kept(lost_steps=3)), ("b", Kept(lost_steps=5))])
    assert out.lost_steps == 5
    with caplog.at_level(logging.WARNING):
        out.close(10)
    assert not caplog.records
