"""Between the training thread, which only appends, and the channel, which only sends.

The training thread leaves a reference to the evaluation's tensors in a bounded ring. A background
thread picks them up once the backward pass has filled in the norms, turns them into columns and
hands them on. A full ring drops the oldest and counts it; nothing here waits for anything, and no
error of ours reaches the training thread.
"""

import logging
import os
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable

from opentelemetry.context import get_current

from penaltyscope.attribution import Attribution
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import PipelineResult
from penaltyscope.telemetry._attribution import attribution_event
from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._columns import Row, blocks
from penaltyscope_events import AttributeValue, Event, names

_logger = logging.getLogger("penaltyscope")

_BATCH_STEPS = 64
"""The ring is drained at the latest when it holds so many."""
_ATTRIBUTIONS = 256
"""Of the results of probes so many are kept until the ring is drained."""
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
        self._ring: deque[Row] = deque()
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._attributions: deque[tuple[str, int, Attribution]] = deque(maxlen=_ATTRIBUTIONS)
        self._dropped = 0
        self._overhead_ns = 0
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
        return Feed(self)

    @property
    def dropped_steps(self) -> int:
        """Evaluations that were lost, in the ring or on the way out."""
        return self._dropped + self._channel.lost_steps

    def append(self, pipeline: str, seq: int, result: PipelineResult) -> None:
        """Leaves one evaluation for the background thread.

        Called on the training thread right after the evaluation, when nothing of ours is in the
        processor's caches: what counts here is how few things are touched.
        """
        started = time.perf_counter_ns()
        if self._silent:
            return
        ring = self._ring
        if len(ring) >= self._capacity:
            ring.popleft()
            self._dropped += 1
        ring.append((pipeline, seq, result.statistics, get_current()))
        if not len(ring) % _BATCH_STEPS:
            self._wake.set()
        self._overhead_ns += time.perf_counter_ns() - started

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
            while self._attributions:
                self._send_attribution(*self._attributions.popleft())
            rows = self._take(final=final)
            for first in range(0, len(rows), _BATCH_STEPS):
                self._send(rows[first : first + _BATCH_STEPS], [])

    def _send(self, rows: list[Row], events: list[Event]) -> None:
        try:
            self._channel.send(blocks(rows, self._incarnation), events)
        except Exception:
            self._dropped += len(rows)
            _logger.exception("%d steps and %d events are lost", len(rows), len(events))

    def _send_attribution(self, pipeline: str, time_ns: int, attribution: Attribution) -> None:
        try:
            event = attribution_event(
                attribution, pipeline=pipeline, incarnation=self._incarnation, time_ns=time_ns
            )
        except Exception:
            _logger.exception("an attribution is lost")
        else:
            self._send([], [event])

    def _take(self, *, final: bool) -> list[Row]:
        """The rows whose norms are there, in order; a row that waited too long goes without."""
        rows: list[Row] = []
        now = self._time_ns()
        for _ in range(len(self._ring)):
            try:
                row = self._ring.popleft()
            except IndexError:  # the training thread dropped it
                break
            statistics = row[2]
            tap = statistics.tap
            waited = (now - statistics.stop_ns) / 1e9
            if tap is not None and tap.settled_ns:
                self._be_patient((tap.settled_ns - statistics.stop_ns) / 1e9)
            elif tap is not None and not final and waited < self._patience_seconds:
                self._ring.appendleft(row)
                break
            rows.append(row)
        return rows

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
            names.OVERHEAD: self._overhead_ns / 1e9,
        }


class Feed:
    """Observes one pipeline for a recorder, and numbers its evaluations."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seq = 0

    def on_start(self, pipeline: Pipeline, step: int) -> None:
        """Nothing yet: start and stop are sent together."""

    def on_stop(self, pipeline: Pipeline, result: PipelineResult) -> None:
        """Leaves the evaluation in the ring."""
        self._recorder.append(pipeline.name, self._seq, result)
        self._seq += 1

    def on_exception(self, pipeline: Pipeline, step: int, error: BaseException) -> None:
        """Reports the exception under the number that the evaluation would have had."""
        self._recorder.exception(pipeline.name, self._seq, step, error)
        self._seq += 1


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
            here._silent = True  # noqa: SLF001  # its own module

    os.register_at_fork(after_in_child=fall_silent)
