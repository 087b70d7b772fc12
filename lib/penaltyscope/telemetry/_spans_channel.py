"""Evaluations as spans, made when they are long over: their times are those of the evaluation."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from penaltyscope.telemetry._channel import Steps, Trace
from penaltyscope.telemetry._onset import Onset
from penaltyscope_events import (
    AttributeValue,
    Event,
    RunIdentity,
    names,
    resource_attributes,
    step_events,
)

_logger = logging.getLogger("penaltyscope")


class SpansChannel:
    """Draws a sample of the steps and makes their spans."""

    lost_steps = 0

    def __init__(
        self,
        identity: RunIdentity,
        provider: trace.TracerProvider,
        *,
        sample_ratio: float,
        seed: int | None,
    ) -> None:
        self._owner: dict[str, AttributeValue] = {
            names.RUN_ID: identity.run_id,
            names.RANK: identity.rank,
        }
        self._provider = provider
        self._tracer = provider.get_tracer(names.SCOPE_NAME, names.SCHEMA_VERSION)
        self._sample_ratio = sample_ratio
        self._random = np.random.default_rng(seed)
        self._onset = Onset()

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:  # noqa: ARG002
        """Makes the spans of one batch."""
        for part in steps:
            for index in self._sample(part):
                self._make(part, index)
        if isinstance(self._provider, OwnProvider):
            self._provider.export()

    def flush(self, timeout_seconds: float) -> bool:
        """Asks the provider to export."""
        if isinstance(self._provider, TracerProvider):
            return self._provider.force_flush(int(timeout_seconds * 1000))
        return True

    def close(self, timeout_seconds: float) -> None:
        """Asks the provider to export; ends it if it is ours."""
        self.flush(timeout_seconds)
        if isinstance(self._provider, OwnProvider):
            self._provider.shutdown()

    def _sample(self, part: Steps) -> Iterator[int]:
        block = part.block
        drawn = self._random.random(len(block)) < self._sample_ratio
        chosen = drawn | self._onset.find(block)
        if part.sampled:
            # A child of a span that nobody keeps would hang in the air.
            chosen &= np.array(part.sampled)
        yield from np.flatnonzero(chosen).tolist()

    def _make(self, part: Steps, index: int) -> None:
        ((start, stop),) = step_events(part.block.take(slice(index, index + 1)))
        span = self._tracer.start_span(
            f"pipeline {part.block.pipeline}",
            context=_parent(part.traces[index]),
            attributes={**self._owner, **stop.attributes, names.TERM_NAMES: part.block.terms},
            start_time=start.time_ns,
        )
        if stop.error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, "not finite"))
        span.end(stop.time_ns)


class OwnProvider(TracerProvider):
    """A provider whose spans are exported when we say so, without a thread of its own."""

    def __init__(self, identity: RunIdentity, exporter: SpanExporter) -> None:
        super().__init__(
            sampler=ALWAYS_ON,  # the sample is drawn before a span is made
            resource=Resource(resource_attributes(identity)),
            shutdown_on_exit=False,
        )
        self._exporter = exporter
        self._ended = _Ended()
        self.add_span_processor(self._ended)

    def export(self) -> None:
        """Exports the spans that have ended since the last time."""
        spans, self._ended.spans = self._ended.spans, []
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            _logger.warning("%r failed on %d spans", self._exporter, len(spans))

    def shutdown(self) -> None:
        """Ends the exporter too."""
        super().shutdown()
        self._exporter.shutdown()


class _Ended(SpanProcessor):
    """Keeps ended spans until they are fetched."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keeps one."""
        self.spans.append(span)


def _parent(ids: Trace) -> Context:
    if ids is None:
        return Context()
    trace_id, span_id = (int.from_bytes(part, "big") for part in ids)
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    parent = trace.SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
