"""OpenTelemetry for Python as a client: its exporters as they are, over both transports."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
import httpx
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetrics,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpMetrics,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tests.service.conformance.pressure import room_after_a_refusal
from tests.service.decode.messages import STOP
from tests.service.process import Service

pytestmark = pytest.mark.conformance

TRANSPORTS: Final = ("http", "http+gzip", "grpc", "grpc+gzip")


def arguments(service: Service, transport: str, path: str) -> dict[str, Any]:
    """What every exporter of a transport is made with."""
    if transport.startswith("http"):
        gzip = Compression.Gzip if "gzip" in transport else Compression.NoCompression
        return {"endpoint": service.url + path, "compression": gzip}
    zipped = grpc.Compression.Gzip if "gzip" in transport else grpc.Compression.NoCompression
    assert service.grpc
    return {"endpoint": service.grpc, "compression": zipped, "insecure": True}


class Results(LogRecordExporter):
    """Passes records on and keeps what became of them."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        self._exporter = exporter
        self.seen: list[LogRecordExportResult] = []

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.seen.append(self._exporter.export(batch))
        return self.seen[-1]

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True


def send_steps(exporter: LogRecordExporter, run: str, values: Sequence[float]) -> Results:
    """One request for each step."""
    results = Results(exporter)
    resource = Resource({"penaltyscope.run.id": run})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(results))
    logger = provider.get_logger("penaltyscope", "1")
    for seq, value in enumerate(values):
        attributes = {**STOP, "penaltyscope.seq": seq, "penaltyscope.term.value": [value, 1.0]}
        logger.emit(
            LogRecord(
                event_name="penaltyscope.pipeline.stop",
                severity_number=SeverityNumber.INFO,
                attributes=attributes,
            )
        )
    provider.shutdown()
    return results


def log_exporter(service: Service, transport: str) -> LogRecordExporter:
    make: Callable[..., LogRecordExporter] = HttpLogs if "http" in transport else GrpcLogs
    return make(**arguments(service, transport, "/v1/logs"), timeout=30)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def known(service: Service, run: str) -> dict[str, Any]:
    runs = httpx.get(f"{service.url}/api/runs").json()["runs"]
    found: dict[str, Any] = next(r for r in runs if r["run"] == run)
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_steps_are_kept_with_what_is_not_finite(service: Service, transport: str, run: str) -> None:
    results = send_steps(log_exporter(service, transport), run, [1.0, float("nan"), -float("inf")])

    assert results.seen == [LogRecordExportResult.SUCCESS] * 3
    kept = known(service, run)
    assert (kept["steps"], kept["nonfinite_steps"]) == (3, 2)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_that_is_told_to_wait_sends_again_and_the_step_counts_once(
    service: Service, transport: str, run: str
) -> None:
    with room_after_a_refusal(service):
        results = send_steps(log_exporter(service, transport), run, [1.0])

    assert results.seen == [LogRecordExportResult.SUCCESS]
    assert known(service, run)["steps"] == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_spans_bring_no_error_and_are_counted(service: Service, transport: str) -> None:
    seen: list[SpanExportResult] = []
    make: Callable[..., SpanExporter] = HttpSpans if "http" in transport else GrpcSpans
    exporter = make(**arguments(service, transport, "/v1/traces"))
    export = exporter.export
    exporter.export = lambda spans: seen.append(export(spans)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
    before = rejected(service, "span")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("job").start_as_current_span("step"):
        pass
    provider.shutdown()

    assert seen == [SpanExportResult.SUCCESS]
    assert rejected(service, "span") == before + 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metrics_bring_no_error_and_are_counted(service: Service, transport: str) -> None:
    seen: list[MetricExportResult] = []
    make: Callable[..., MetricExporter] = HttpMetrics if "http" in transport else GrpcMetrics
    exporter = make(**arguments(service, transport, "/v1/metrics"))
    export = exporter.export
    exporter.export = lambda *a, **k: seen.append(export(*a, **k)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
    before = rejected(service, "data_point")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("job").create_counter("steps").add(1)
    provider.shutdown()

    assert seen == [MetricExportResult.SUCCESS]
    assert rejected(service, "data_point") == before + 1


def rejected(service: Service, reason: str) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    prefix = f'penaltyscope_ingest_rejected_records_total{{reason="{reason}"}} '
    return next(float(line[len(prefix) :]) for line in text.splitlines() if line.startswith(prefix))
