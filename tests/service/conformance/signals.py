"""The three signals, each with requests that are good, empty and partly refused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
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

from penaltyscope_service.decode import ContentType
from tests.service.decode.messages import encode as encode_records
from tests.service.decode.messages import stop

ENCODINGS: Final[tuple[ContentType, ...]] = ("application/x-protobuf", "application/json")


@dataclass(frozen=True)
class Signal:
    """One path of OTLP/HTTP."""

    path: str
    empty: Message
    refused: Message
    """One item of it is not kept."""
    response: Callable[[], Any]
    rejected: str
    """The field that counts what was refused."""


def _logs() -> Message:
    """A step, and one whose number is wrong."""
    records = (stop({"penaltyscope.seq": 0}), stop({"penaltyscope.seq": -1}))
    return ExportLogsServiceRequest.FromString(encode_records("application/x-protobuf", *records))


def _traces() -> Message:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="step", kind=1)
    return request


def _metrics() -> Message:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="loss")
    metric.gauge.data_points.add(as_double=1.5)
    return request


LOGS: Final = Signal(
    "/v1/logs",
    ExportLogsServiceRequest(),
    _logs(),
    ExportLogsServiceResponse,
    "rejected_log_records",
)
SIGNALS: Final = (
    LOGS,
    Signal(
        "/v1/traces",
        ExportTraceServiceRequest(),
        _traces(),
        ExportTraceServiceResponse,
        "rejected_spans",
    ),
    Signal(
        "/v1/metrics",
        ExportMetricsServiceRequest(),
        _metrics(),
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
)


def write(message: Message, encoding: ContentType) -> bytes:
    """A request as a client writes it."""
    if encoding == "application/x-protobuf":
        return message.SerializeToString()
    return orjson.dumps(json_format.MessageToDict(message, use_integers_for_enums=True))


def read(body: bytes, encoding: ContentType, message: Any) -> Any:  # noqa: ANN401
    """A response as a strict client reads it: an unknown field is an error."""
    if encoding == "application/x-protobuf":
        message.ParseFromString(body)
        assert not len(UnknownFieldSet(message))
        return message
    return json_format.Parse(body, message)
