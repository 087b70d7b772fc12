"""Between the training thread, which only appends, and the channel, which only sends.

The training thread leaves a reference to the evaluation's tensors in a bounded ring. A background
thread picks them up once the backward pass has filled in the norms, turns them into columns and
hands them on, a short piece at a time. A full ring drops the oldest, which shows in the numbers of
the rest; nothing here waits for anything, and no error of ours reaches the training thread.
"""

import logging
import math
import os
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch

from penaltyscope.attribution import Attribution
from penaltyscope.telemetry._attribution import attribution_event
from penaltyscope.telemetry._capture import Captures
from penaltyscope.telemetry._carrier import Carrier
from penaltyscope.telemetry._channel import Channel, Steps
from penaltyscope.telemetry._feed import Feed
from penaltyscope.telemetry._ring import Ring
from penaltyscope.telemetry._spanned import context_reader
from penaltyscope.telemetry._transfer import Transfer
from penaltyscope_events import AttributeValue, Event, names

_logger = logging.getLogger("penaltyscope")

_BATCH_STEPS = 256
"""The ring is drained in pieces of so many."""
_ATTRIBUTIONS = 256
"""Of the results of probes so many are kept until the ring is drained."""
_POLL_SECONDS = 0.005
"""How often copies from a device, or an alarming step's backward pass, are looked after."""
_ALARM_SECONDS = 0.25
"""How long after an alarm its backward pass is awaited."""
_MOST_UNDERWAY = 2 * _BATCH_STEPS


class Recorder:
    """Records evaluations of pipelines and sends them through a channel."""

    def __init__(
        self,
        channel: Channel,
        *,
        incarnation: str,
        interval_seconds: float = 1.0,
        heartbeat_seconds: float = 5.0,
        capacity: int = 8192,
        time_ns: Callable[[], int] = time.time_ns,
        make_transfer: Callable[[torch.device], Transfer] | None = None,
    ) -> None:
        self._channel = channel
        self._incarnation = incarnation
        self._interval_seconds = interval_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._time_ns = time_ns
        self._ring = Ring(capacity, time_ns)
        self._carrier = Carrier(incarnation, make_transfer)
        self._read_context = context_reader()
        self.captures = Captures(incarnation, time_ns, self._read_context)
        """Evaluations that CUDA graphs replay."""
        self._feeds: list[Feed] = []
        self._events: deque[Event] = deque()
        self._overrun = 0
        self._attributions: deque[tuple[str, int, Attribution]] = deque(maxlen=_ATTRIBUTIONS)
        self._dropped = 0
        """Evaluations that could not be sent."""
        self._silent = False
        _after_fork(self)
        self._asleep = threading.Lock()
        """Held while nobody has asked for a drain; an event would cost the thread several times as
        much whenever it waits."""
        self._asleep.acquire()
        self._alarmed = -math.inf
        self._next_look = 0.0
        self._closing = False
        self._draining = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="penaltyscope-recorder", daemon=True)

    def start(self, attributes: dict[str, AttributeValue]) -> None:
        """Sends ``run.start`` and begins to drain."""
        self._emit(names.RUN_START, attributes)
        self._thread.start()
        self.wake()

    def feed(self) -> "Feed":
        """An observer for one pipeline."""
        feed = Feed(self, self._ring.append, self._read_context)
        self._feeds.append(feed)
        return feed

    @property
    def dropped_steps(self) -> int:
        """Evaluations that were lost, in the ring or on the way out."""
        if self._draining.acquire(blocking=False):
            try:
                self._count_overrun()
            finally:
                self._draining.release()
        lost = self._overrun + self._carrier.lost + self.captures.lost + self._dropped
        return lost + self._channel.lost_steps

    def transfer(self, device: torch.device) -> Transfer | None:
        """The way that numbers take from a device; None from the host."""
        return self._carrier.transfer(device) if self._carrier.carries(device) else None

    def wake(self) -> None:
        """Lets the background thread drain now."""
        with suppress(RuntimeError):  # somebody else has asked already
            self._asleep.release()

    def alarm(self) -> None:
        """Lets it drain now and as soon as the backward pass is through; once an interval."""
        now = time.monotonic()
        if now >= self._alarmed + self._interval_seconds:
            self._alarmed = now
            self.wake()

    def silence(self) -> None:
        """Records nothing from now on."""
        self._silent = True
        for feed in self._feeds:
            feed.silence()

    def attribution(self, pipeline: str, attribution: Attribution) -> None:
        """Leaves a probe's result. Called on the training thread; its numbers are read later."""
        if not self._silent:
            self._attributions.append((pipeline, self._time_ns(), attribution))

    def exception(self, pipeline: str, seq: int, step: int, error: BaseException) -> None:
        """Reports that an evaluation raised. Called on the training thread."""
        attributes: dict[str, AttributeValue] = {
            names.PIPELINE: pipeline,
            names.STEP: step,
            names.SEQ: seq,
            names.INCARNATION: self._incarnation,
        }
        self._emit(names.PIPELINE_EXCEPTION, attributes | describe(error), error=True)
        self.wake()

    def flush(self, timeout_seconds: float) -> bool:
        """Sends all that is settled, and waits until it has arrived."""
        deadline = time.monotonic() + timeout_seconds
        self._drain_all(final=False, until=deadline)
        return self._channel.flush(max(deadline - time.monotonic(), 0.0))

    def close(
        self, attributes: dict[str, AttributeValue], *, error: bool, timeout_seconds: float
    ) -> None:
        """Sends what is left and ``run.end``; waits at most the given time."""
        if self._silent or self._closing:
            return
        deadline = time.monotonic() + timeout_seconds
        self._closing = True
        self.wake()
        self._thread.join(timeout_seconds)
        self._drain_all(final=True, until=deadline)
        self._emit(names.RUN_END, attributes | self._health(), error=error)
        self._drain(final=True)
        self._channel.close(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        next_heartbeat = time.monotonic() + self._heartbeat_seconds
        while not self._closing:
            self._asleep.acquire(timeout=self._pause())
            if time.monotonic() >= next_heartbeat:
                next_heartbeat += self._heartbeat_seconds
                self._emit(names.RUN_HEARTBEAT, self._health())
            self._drain()

    def _pause(self) -> float:
        alarmed = time.monotonic() < self._alarmed + _ALARM_SECONDS
        attentive = self._waiting or (alarmed and self._ring.unsettled)
        return _POLL_SECONDS if attentive else self._interval_seconds

    @property
    def _waiting(self) -> bool:
        return bool(self._carrier.underway or (self.captures.captured and self.captures.waiting))

    def _drain_all(self, *, final: bool, until: float) -> None:
        # The last replay of a graph is complete when a second look finds no other.
        for _ in range(2 if self.captures.captured else 1):
            self._next_look = 0.0
            self._drain(final=final, until=until)

    def _drain(self, *, final: bool = False, until: float = 0.0) -> None:
        """Sends what is there; waits for a device's copies until a time of the monotonic clock."""
        with self._draining:
            try:
                self._work(final=final, until=until)
            except Exception:
                # A device that fails, for instance: neither training nor this thread may end by it.
                _logger.exception("telemetry could not be collected")

    def _work(self, *, final: bool, until: float) -> None:
        # Asked first: right after a second of training even an empty loop takes ten microseconds.
        events = [self._events.popleft() for _ in range(len(self._events))] if self._events else []
        if self._attributions:
            events += self._attribution_events()
        if self.captures.captured and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + self._interval_seconds
            self.captures.look()
        # Together, since what travels is a request: and a run begins with its start.
        while self._advance(events, final=final) or (
            until and self._waiting and time.monotonic() < until
        ):
            events = []
            # Lets the training thread in, which else waits for the interpreter's 5 ms.
            time.sleep(_POLL_SECONDS if self._waiting else 0)

    def _advance(self, events: list[Event], *, final: bool) -> bool:
        """One short piece of work; false when there is nothing more to do now."""
        room = not self._carrier.underway or self._carrier.waiting < _MOST_UNDERWAY
        rows = self._ring.take(_BATCH_STEPS, final=final) if room else []
        steps = self._carrier.bring(rows)
        if self.captures.captured:
            steps += self.captures.collect()
        if steps or events:
            self._send(steps, events)
        return len(rows) == _BATCH_STEPS or bool(steps and (self._waiting or not room))

    def _send(self, steps: Sequence[Steps], events: list[Event]) -> None:
        try:
            self._channel.send(steps, events)
        except Exception:
            count = sum(len(part.block) for part in steps)
            self._dropped += count
            _logger.exception("%d steps and %d events are lost", count, len(events))

    def _attribution_events(self) -> Iterator[Event]:
        while self._attributions:
            pipeline, time_ns, attribution = self._attributions.popleft()
            try:
                yield attribution_event(
                    attribution, pipeline=pipeline, incarnation=self._incarnation, time_ns=time_ns
                )
            except Exception:
                _logger.exception("an attribution is lost")

    def _count_overrun(self) -> None:
        self._overrun = self._ring.lost(sum(feed.appended for feed in self._feeds))

    def _emit(
        self, name: str, attributes: dict[str, AttributeValue], *, error: bool = False
    ) -> None:
        event = Event(name=name, time_ns=self._time_ns(), attributes=attributes, error=error)
        self._events.append(event)

    def _health(self) -> dict[str, AttributeValue]:
        return {
            names.DROPPED_STEPS: self.dropped_steps,
            names.OVERHEAD: sum(feed.overhead_ns for feed in self._feeds) / 1e9,
        }


def describe(error: BaseException) -> dict[str, AttributeValue]:
    """OpenTelemetry's attributes of an exception."""
    return {
        names.EXCEPTION_TYPE: f"{type(error).__module__}.{type(error).__qualname__}",
        names.EXCEPTION_MESSAGE: str(error),
        names.EXCEPTION_STACKTRACE: "".join(traceback.format_exception(error)),
    }


def _after_fork(recorder: Recorder) -> None:
    """Keeps the recorder silent in children, such as a data loader's: its thread is not there."""
    known = weakref.ref(recorder)

    def fall_silent() -> None:
        if (here := known()) is not None:
            here.silence()

    os.register_at_fork(after_in_child=fall_silent)
