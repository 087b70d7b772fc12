"""What the training thread does at every evaluation of a watched pipeline: nearly nothing."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from penaltyscope.pipeline import Observer, Pipeline
from penaltyscope.result import PipelineResult, Statistics
from penaltyscope.telemetry._rows import Row
from penaltyscope.telemetry._spanned import ReadContext

if TYPE_CHECKING:
    from penaltyscope.telemetry._recorder import Recorder
    from penaltyscope.telemetry._transfer import Transfer

_SAMPLE_STEPS = 64
"""Of so many calls one is timed, and looks where the numbers are."""
_WAKE_STEPS = 16 * _SAMPLE_STEPS
"""After so many the ring is drained before the interval is over, lest it overflows."""


class Feed(Observer):
    """Observes one pipeline for a recorder, and numbers its evaluations.

    A start is not told of: start and stop are sent together.
    """

    __slots__ = (
        "_append",
        "_careful_at",
        "_next_sample",
        "_raised",
        "_read_context",
        "_recorder",
        "_sampled",
        "_seq",
        "_transfer",
        "_wake_at",
        "overhead_ns",
    )

    def __init__(
        self, recorder: "Recorder", append: Callable[[Row], None], read_context: ReadContext
    ) -> None:
        self._recorder = recorder
        self._append = append
        self._read_context = read_context
        self._transfer: Transfer | None = None
        """From the device of the last evaluations; None where that is the host."""
        self._seq = 0
        self._raised = 0
        self._careful_at = 0
        """The number of the next evaluation that is more than a row to append."""
        self._next_sample = 0
        self._sampled = 0
        self._wake_at = _WAKE_STEPS
        self.overhead_ns = 0
        """Nanoseconds that the training thread has spent here, by a sample of the calls."""

    @property
    def appended(self) -> int:
        """Evaluations that were left in the ring."""
        return self._seq - self._raised

    def on_stop(self, pipeline: Pipeline, result: PipelineResult) -> None:
        """Leaves the evaluation in the ring.

        Called right after the evaluation, when nothing of ours is in the processor's caches: what
        counts here is how few things are touched.
        """
        seq, statistics = self._seq, result.statistics
        if seq < self._careful_at and not statistics.alarming:
            # Read before they are called: the interpreter would look for methods in the class.
            append, read_context = self._append, self._read_context
            append((pipeline, seq, statistics, read_context(None), None))
            self._seq = seq + 1
        else:
            self._append_with_care(pipeline, statistics)

    def on_exception(self, pipeline: Pipeline, step: int, error: BaseException) -> None:
        """Reports the exception under the number that the evaluation would have had."""
        self._recorder.exception(pipeline.name, self._seq, step, error)
        self._raised += 1
        self._seq += 1

    def silence(self) -> None:
        """Keeps nothing from now on."""
        self._append = deque[Row](maxlen=0).append

    def _append_with_care(self, pipeline: Pipeline, statistics: Statistics) -> None:
        seq = self._seq
        sampled = seq >= self._next_sample
        if sampled:
            self._transfer = self._recorder.transfer(statistics.device)
            self._next_sample = seq + _SAMPLE_STEPS
            self._careful_at = 0 if self._transfer is not None else self._next_sample
        started = time.perf_counter_ns()
        mark = None
        if self._transfer is not None:
            mark = self._transfer.mark()
            if self._transfer.capturing(mark):
                self._recorder.captures.capture(pipeline, statistics, self._transfer)
                return
            self._recorder.captures.prepare(statistics)
        self._append((pipeline, seq, statistics, self._read_context(None), mark))
        self._seq = seq + 1
        if sampled:
            self._account(started)
        if statistics.alarming:
            self._recorder.alarm()

    def _account(self, started_ns: int) -> None:
        appended_ns = time.perf_counter_ns()
        if self._seq > self._wake_at:
            self._wake_at += _WAKE_STEPS
            self._recorder.wake()
        # The calls since the last sample are taken to have cost as much as this one.
        calls, self._sampled = self._seq - self._sampled, self._seq
        self.overhead_ns += (appended_ns - started_ns) * calls
        self.overhead_ns += time.perf_counter_ns() - appended_ns
