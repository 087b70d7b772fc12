"""Steps as OpenTelemetry metrics. Reference: docs/sinks.md, which lists every metric."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.sdk import metrics as sdk

from penaltyscope.telemetry._aggregate import PipelineAggregate
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._sink import Source
from penaltyscope_events import Event, StepBlock, TermFlag, names

_DURATION_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_NORM_BOUNDS = tuple(float(f"1e{exponent}") for exponent in range(-6, 7))

_PIPELINE_GAUGES = {
    "loss": "Task loss plus penalties, last finite.",
    "penalty": "Sum of contributions, last finite.",
    "base_loss": "Task loss, last finite.",
    "gradient_norm": "Norm of the weighted gradient of all terms, last finite.",
}
_TERM_GAUGES = {
    "value": "Unweighted value of a term, last finite.",
    "weight": "Weight of a term, last finite.",
    "contribution": "Weight times value of a term, last finite.",
    "gradient_norm": "Norm of a term's unweighted gradient, last finite.",
}

Show = Callable[[], Iterable[Observation]]


class MetricsChannel:
    """Keeps what steps add up to, and shows it to a meter whenever that is read.

    Nothing here runs on the training thread: steps come on the lane's, and readers have their own.
    """

    lost_steps = 0

    def __init__(
        self,
        source: Source,
        provider: MeterProvider,
        *,
        own: bool,
        interval_seconds: float,
        distributions: bool,
    ) -> None:
        """Begins with every counter at 0.

        Args:
            source: who is watched.
            provider: gives the meter.
            own: whether the provider is ours to read every ``interval_seconds``, and to shut down.
            interval_seconds: see ``own``.
            distributions: whether there are histograms.
        """
        self._provider = provider
        self._own = own
        self._interval_seconds = interval_seconds
        self._next_export = 0.0
        self._process = os.getpid()
        self._closed = False
        self._owner: dict[str, str | int] = {
            names.RUN_ID: source.identity.run_id,
            names.RANK: source.identity.rank,
        }
        self._changing = threading.Lock()
        self._pipelines = {name: PipelineAggregate(t) for name, t in source.pipelines.items()}
        self._dropped = 0
        # A meter of this watch's own: another watch's instruments would not take our callbacks.
        meter = provider.get_meter(
            names.SCOPE_NAME,
            names.SCHEMA_VERSION,
            attributes={names.INCARNATION: source.incarnation},
        )
        self._distributions = _Distributions(meter, self._owner) if distributions else None
        self._create_counters(meter)
        self._create_gauges(meter)

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Adds one batch, and exports when the interval is over."""
        with self._changing:
            for part in steps:
                self._pipeline(part.block).observe(part.block)
            for event in events:
                dropped = event.attributes.get(names.DROPPED_STEPS)
                self._dropped = dropped if isinstance(dropped, int) else self._dropped
        if self._distributions is not None:
            for part in steps:
                self._distributions.record(part.block)
        if self._own and time.monotonic() >= self._next_export:
            # The first time at once: a counter has to be seen at 0 before it rises.
            self._next_export = time.monotonic() + self._interval_seconds
            self._export(self._interval_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        """Exports what there is."""
        return self._export(timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Exports for the last time, and falls silent."""
        self._export(timeout_seconds)
        self._closed = True
        if self._own and isinstance(self._provider, sdk.MeterProvider):
            self._provider.shutdown(timeout_seconds * 1000)

    def _export(self, timeout_seconds: float) -> bool:
        if isinstance(self._provider, sdk.MeterProvider):
            return self._provider.force_flush(max(timeout_seconds, 0.001) * 1000)
        return True

    def _pipeline(self, block: StepBlock) -> PipelineAggregate:
        return self._pipelines.setdefault(block.pipeline, PipelineAggregate(block.terms))

    def _create_counters(self, meter: Meter) -> None:
        counters: tuple[tuple[str, str, Show, str], ...] = (
            ("pipeline.steps", "{step}", self._steps, "Evaluations of a pipeline."),
            (
                "nonfinite",
                "{finding}",
                self._findings,
                "Evaluations at which a term was not finite, by stage and kind.",
            ),
            ("recorder.dropped_steps", "{step}", self._drops, "Evaluations that were lost."),
        )
        for name, unit, show, description in counters:
            meter.create_observable_counter(
                f"penaltyscope.{name}", [self._callback(show)], unit=unit, description=description
            )

    def _create_gauges(self, meter: Meter) -> None:
        for kind, description in _PIPELINE_GAUGES.items():
            meter.create_observable_gauge(
                f"penaltyscope.pipeline.{kind}",
                [self._callback(partial(self._pipeline_gauges, kind))],
                description=description,
            )
        for kind, description in _TERM_GAUGES.items():
            meter.create_observable_gauge(
                f"penaltyscope.term.{kind}",
                [self._callback(partial(self._term_gauges, kind))],
                description=description,
            )

    def _callback(self, show: Show) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            # A forked child inherits the provider, whose reader may go on there.
            if self._closed or os.getpid() != self._process:
                return []
            with self._changing:
                return list(show())

        return read

    def _steps(self) -> Iterator[Observation]:
        for name, pipeline in self._pipelines.items():
            yield Observation(pipeline.steps, self._owner | {names.PIPELINE: name})

    def _findings(self) -> Iterator[Observation]:
        for name, pipeline in self._pipelines.items():
            for (term, finding), count in pipeline.findings.items():
                yield Observation(
                    count,
                    self._owner
                    | {
                        names.PIPELINE: name,
                        names.TERM: term,
                        names.STAGE: finding.stage,
                        names.KIND: finding.kind,
                    },
                )

    def _drops(self) -> Iterator[Observation]:
        yield Observation(self._dropped, self._owner)

    def _pipeline_gauges(self, kind: str) -> Iterator[Observation]:
        for name, pipeline in self._pipelines.items():
            if kind in pipeline.gauges:
                yield Observation(pipeline.gauges[kind], self._owner | {names.PIPELINE: name})

    def _term_gauges(self, kind: str) -> Iterator[Observation]:
        for name, pipeline in self._pipelines.items():
            for term, number in pipeline.term_gauges[kind].items():
                yield Observation(number, self._owner | {names.PIPELINE: name, names.TERM: term})


class _Distributions:
    """Histograms, which the SDK has no way to be given but number by number."""

    def __init__(self, meter: Meter, owner: Mapping[str, str | int]) -> None:
        self._owner = dict(owner)
        self._durations = meter.create_histogram(
            "penaltyscope.pipeline.duration",
            unit="s",
            description="Of an evaluation, on the training thread.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDS,
        )
        self._norms = meter.create_histogram(
            "penaltyscope.term.gradient_norm.distribution",
            description="Finite norms of a term's unweighted gradient.",
            explicit_bucket_boundaries_advisory=_NORM_BOUNDS,
        )

    def record(self, block: StepBlock) -> None:
        """Adds durations, and the norms that were measured and are finite."""
        pipeline = self._owner | {names.PIPELINE: block.pipeline}
        for seconds in block.duration.tolist():
            self._durations.record(seconds, pipeline)
        measured = (block.flags & TermFlag.NORM_NOT_MEASURED) == 0
        seen = measured & np.isfinite(block.gradient_norm)
        for column, term in enumerate(block.terms):
            attributes = pipeline | {names.TERM: term}
            for norm in block.gradient_norm[seen[:, column], column].tolist():
                self._norms.record(norm, attributes)
