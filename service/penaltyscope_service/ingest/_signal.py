"""The three signals of OTLP, each with its path and its messages."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

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


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """How one signal is decoded and answered."""

    service: str
    """The full name of its gRPC service."""
    decode: Decode
    request: type[Message]
    """What is decoded."""
    response: Any
    """Makes the empty response; the three types share no base but protobuf's own."""
    rejected_field: str
    """The field of the partial success that counts what was refused."""

    def accept(self, decoded: Decoded) -> Message:
        """The answer; a partial success only where something was refused, as OTLP says."""
        response = self.response()
        refused = sum(decoded.refused.values())
        if refused:
            setattr(response.partial_success, self.rejected_field, refused)
            response.partial_success.error_message = decoded.message
        answer: Message = response
        return answer


_COLLECTOR: Final = "opentelemetry.proto.collector"
SIGNALS: Final = {
    "/v1/logs": Signal(
        f"{_COLLECTOR}.logs.v1.LogsService",
        decode_logs,
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
        "rejected_log_records",
    ),
    "/v1/traces": Signal(
        f"{_COLLECTOR}.trace.v1.TraceService",
        decode_traces,
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
        "rejected_spans",
    ),
    "/v1/metrics": Signal(
        f"{_COLLECTOR}.metrics.v1.MetricsService",
        decode_metrics,
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
}
