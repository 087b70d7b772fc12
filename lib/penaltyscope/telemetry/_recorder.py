"""Between the training thread, which only appends, and the channel, which only sends.

The training thread leaves a reference to the evaluation's tensors in a bounded ring. A background
thread picks them up once the backward pass has filled in the norms, turns them into columns and
hands them on, a short piece at a time. A full ring drops the oldest, which shows in the numbers of
the rest; nothing here waits for anything, and no error of ours reaches the training thread.
"""

import logging
import os
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import PipelineResult, Statistics
from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._columns import Row, blocks
from penaltyscope_events import AttributeValue, Event, names

_logger = logging.getLogger("penaltyscope")

_BATCH_STEPS = 64
"""The ring is drained at the latest when so many came in, and in pieces of so many."""
_FIRST_PATIENCE_SECONDS = 60.0
"""How long the first backward pass may take; it may include a compilation."""
_LEAST_PATIENCE_SECONDS = 2.0


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
    ) -> None:
        self._channel = channel
        self._incarnation = incarnation
        self._interval_seconds = interval_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._time_ns = time_ns
        self._ring: deque[Row] = deque(maxlen=capacity)
        self._held: Row | None = None
        """Taken out of the ring, but its norms are not there yet."""
        self._taken = 0
        self._feeds: list[Feed] = []
        self._events: deque[Event] = deque()
        self._overrun = 0
        """Evaluations that fell out of the full ring."""
        self._dropped = 0
        """Evaluations that could not be read or sent."""
        self._patience_seconds = _FIRST_PATIENCE_SECONDS
        self._silent = False
        _after_fork(self)
        self._wake = threading.Event()
        self._closing = False
        self._draining = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="penaltyscope-recorder", daemon=True)

    def start(self, attributes: dict[str, AttributeValue]) -> None:
        """Sends ``run.start`` and begins to drain."""
        self._emit(names.RUN_START, attributes)
        self._thread.start()
        self._wake.set()

    def feed(self) -> "Feed":
        """An observer for one pipeline."""
        feed = Feed(self, self._ring, self._wake)
        self._feeds.append(feed)
        return feed

    @property
    def dropped_steps(self) -> int:
        """Evaluations that were lost, in the ring or on the way out."""
        if self._draining.acquire(blocking=False):
            try:
                self._count_drops()
            finally:
                self._draining.release()
        return self._overrun + self._dropped + self._channel.lost_steps

    def silence(self) -> None:
        """Records nothing from now on."""
        self._silent = True
        for feed in self._feeds:
            feed.silence()

    def exception(self, pipeline: str, seq: int, step: int, error: BaseException) -> None:
        """Reports that an evaluation raised. Called on the training thread."""
        attributes: dict[str, AttributeValue] = {
            names.PIPELINE: pipeline,
            names.STEP: step,
            names.SEQ: seq,
            names.INCARNATION: self._incarnation,
        }
        self._emit(names.PIPELINE_EXCEPTION, attributes | describe(error), error=True)
        self._wake.set()

    def flush(self, timeout_seconds: float) -> bool:
        """Sends all that is settled, and waits until it has arrived."""
        self._drain(final=False)
        return self._channel.flush(timeout_seconds)

    def close(
        self, attributes: dict[str, AttributeValue], *, error: bool, timeout_seconds: float
    ) -> None:
        """Sends what is left and ``run.end``; waits at most the given time."""
        if self._silent or self._closing:
            return
        deadline = time.monotonic() + timeout_seconds
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_seconds)
        self._drain(final=True)
        self._emit(names.RUN_END, attributes | self._health(), error=error)
        self._drain(final=True)
        self._channel.close(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        next_heartbeat = time.monotonic() + self._heartbeat_seconds
        while not self._closing:
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            if time.monotonic() >= next_heartbeat:
                next_heartbeat += self._heartbeat_seconds
                self._emit(names.RUN_HEARTBEAT, self._health())
            self._drain(final=False)

    def _drain(self, *, final: bool) -> None:
        with self._draining:
            # Events first: a run begins with its start.
            if events := [self._events.popleft() for _ in range(len(self._events))]:
                self._send([], events)
            while rows := self._take(final=final):
                self._send(rows, [])
                # Lets the training thread in, which else waits for the interpreter's 5 ms.
                time.sleep(0)
            self._count_drops()

    def _send(self, rows: list[Row], events: list[Event]) -> None:
        try:
            self._channel.send(blocks(rows, self._incarnation), events)
        except Exception:
            self._dropped += len(rows)
            _logger.exception("%d steps and %d events are lost", len(rows), len(events))

    def _take(self, *, final: bool) -> list[Row]:
        """The next rows whose norms are there; a row that waited too long goes without."""
        rows: list[Row] = []
        now = self._time_ns()
        while len(rows) < _BATCH_STEPS:
            row = self._held
            if row is None:
                try:
                    row = self._ring.popleft()
                except IndexError:
                    break
            if not (final or self._ready(row[2], now)):
                self._held = row
                break
            self._held = None
            rows.append(row)
        self._taken += len(rows)
        return rows

    def _ready(self, statistics: Statistics, now: int) -> bool:
        tap = statistics.tap
        if tap is None:
            return True
        if tap.settled_ns:
            self._be_patient((tap.settled_ns - statistics.stop_ns) / 1e9)
            return True
        return (now - statistics.stop_ns) / 1e9 >= self._patience_seconds

    def _count_drops(self) -> None:
        # In this order: what comes in meanwhile must not look as if it were lost.
        appended = sum(feed.appended for feed in self._feeds)
        kept = self._taken + len(self._ring) + (self._held is not None)
        self._overrun = max(self._overrun, appended - kept)

    def _be_patient(self, took_seconds: float) -> None:
        longest = max(10 * took_seconds, _LEAST_PATIENCE_SECONDS)
        if self._patience_seconds == _FIRST_PATIENCE_SECONDS or longest > self._patience_seconds:
            self._patience_seconds = longest

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


class Feed:
    """Observes one pipeline for a recorder, and numbers its evaluations."""

    __slots__ = ("_append", "_raised", "_recorder", "_sampled", "_seq", "_wake", "overhead_ns")

    def __init__(self, recorder: Recorder, ring: deque[Row], wake: threading.Event) -> None:
        self._recorder = recorder
        self._append = ring.append
        self._wake = wake
        self._seq = 0
        self._raised = 0
        self._sampled = 0
        self.overhead_ns = 0
        """Nanoseconds that the training thread has spent here, by a sample of the calls."""

    @property
    def appended(self) -> int:
        """Evaluations that were left in the ring."""
        return self._seq - self._raised

    def on_start(self, pipeline: Pipeline, step: int) -> None:
        """Nothing yet: start and stop are sent together."""

    def on_stop(self, pipeline: Pipeline, result: PipelineResult) -> None:
        """Leaves the evaluation in the ring.

        Called right after the evaluation, when nothing of ours is in the processor's caches: what
        counts here is how few things are touched.
        """
        seq = self._seq
        if seq % _BATCH_STEPS:
            self._append((pipeline, seq, result.statistics, copy_context()))
        else:
            self._append_timed(pipeline, result)
        self._seq = seq + 1

    def on_exception(self, pipeline: Pipeline, step: int, error: BaseException) -> None:
        """Reports the exception under the number that the evaluation would have had."""
        self._recorder.exception(pipeline.name, self._seq, step, error)
        self._raised += 1
        self._seq += 1

    def silence(self) -> None:
        """Keeps nothing from now on."""
        self._append = deque[Row](maxlen=0).append

    def _append_timed(self, pipeline: Pipeline, result: PipelineResult) -> None:
        started = time.perf_counter_ns()
        self._append((pipeline, self._seq, result.statistics, copy_context()))
        appended = time.perf_counter_ns()
        self._wake.set()
        woken = time.perf_counter_ns()
        # The calls since the last sample are taken to have cost as much as this one.
        calls = self._seq + 1 - self._sampled
        self._sampled = self._seq + 1
        self.overhead_ns += (appended - started) * calls + woken - appended


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
