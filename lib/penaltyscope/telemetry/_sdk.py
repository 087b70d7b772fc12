"""Any OpenTelemetry ``LogRecordExporter`` as a channel."""

import logging
from collections.abc import Iterator, Mapping, Sequence

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from penaltyscope.telemetry._channel import Steps, Trace
from penaltyscope_events import (
    AttributeValue,
    Event,
    RunIdentity,
    names,
    resource_attributes,
    step_events,
)

_logger = logging.getLogger("penaltyscope")


class ExporterChannel:
    """Turns batches into the SDK's log records and gives them to an exporter.

    The exporter is called on the recorder's thread, one batch at a time, and is shut down at the
    end. A batch that it fails on is lost and counted: retrying is the exporter's business.
    """

    def __init__(self, exporter: LogRecordExporter, identity: RunIdentity) -> None:
        self._exporter = exporter
        self._resource = Resource(resource_attributes(identity))
        self._lost_steps = 0

    @property
    def lost_steps(self) -> int:
        """Steps that the exporter failed on."""
        return self._lost_steps

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Exports one batch."""
        records = [r for part in steps for r in self._steps(part)]
        records += [self._record(_scope({}), _log_record(event, None)) for event in events]
        if not records:
            return
        if self._exporter.export(records) is not LogRecordExportResult.SUCCESS:
            self._lost_steps += sum(len(part.block) for part in steps)
            _logger.warning("%r failed on %d records", self._exporter, len(records))

    def flush(self, timeout_seconds: float) -> bool:
        """Flushes the exporter."""
        return self._exporter.force_flush(int(timeout_seconds * 1000))

    def close(self, timeout_seconds: float) -> None:
        """Flushes the exporter and shuts it down."""
        self.flush(timeout_seconds)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _steps(self, steps: Steps) -> Iterator[ReadableLogRecord]:
        scope = _scope({names.TERM_NAMES: steps.block.terms})
        for events, span in zip(step_events(steps.block), steps.traces, strict=True):
            for event in events:
                yield self._record(scope, _log_record(event, span))

    def _record(self, scope: InstrumentationScope, record: LogRecord) -> ReadableLogRecord:
        return ReadableLogRecord(
            log_record=record, resource=self._resource, instrumentation_scope=scope
        )


def _log_record(event: Event, span: Trace) -> LogRecord:
    return LogRecord(
        timestamp=event.time_ns,
        observed_timestamp=event.time_ns,
        context=_context(span),
        severity_number=SeverityNumber.ERROR if event.error else SeverityNumber.INFO,
        attributes=event.attributes,
        event_name=event.name,
    )


def _context(span: Trace) -> Context:
    if span is None:
        return Context()
    trace_id, span_id = (int.from_bytes(part, "big") for part in span)
    context = trace.SpanContext(trace_id, span_id, is_remote=False)
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def _scope(attributes: Mapping[str, AttributeValue]) -> InstrumentationScope:
    return InstrumentationScope(names.SCOPE_NAME, names.SCHEMA_VERSION, attributes=attributes)
