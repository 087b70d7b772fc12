"""The three signals of OTLP, each with its path and its messages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from penaltyscope_service.decode import (
    ContentType,
    Decoded,
    decode_logs,
    decode_metrics,
    decode_traces,
)


class Decode(Protocol):
    """Bytes in, batches and counts out."""

    def __call__(self, body: bytes, content_type: ContentType, *, received_ns: int) -> Decoded:
        """Decodes a body."""


@dataclass(frozen=True, slots=True)
class Signal:
    """How one signal is decoded and answered."""

    decode: Decode
    response: Callable[[], Any]
    """Makes the empty response; the three types share no base but protobuf's own."""
    rejected_field: str
    """The field of the partial success that counts what was refused."""


SIGNALS: Final = {
    "/v1/logs": Signal(decode_logs, ExportLogsServiceResponse, "rejected_log_records"),
    "/v1/traces": Signal(decode_traces, ExportTraceServiceResponse, "rejected_spans"),
    "/v1/metrics": Signal(decode_metrics, ExportMetricsServiceResponse, "rejected_data_points"),
}
