from collections.abc import Callable

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penaltyscope_service.decode import (
    ContentType,
    Decoded,
    InvalidRequestError,
    decode_metrics,
    decode_traces,
)

BOTH = pytest.mark.parametrize("encoding", ["application/x-protobuf", "application/json"])

Decode = Callable[[bytes, ContentType], Decoded]


def write(message: Message, encoding: ContentType) -> bytes:
    if encoding == "application/x-protobuf":
        return message.SerializeToString()
    return orjson.dumps(json_format.MessageToDict(message))


@BOTH
def test_every_span_of_every_scope_is_counted_as_refused(encoding: ContentType) -> None:
    request = ExportTraceServiceRequest()
    for spans in (2, 0, 3):
        scope = request.resource_spans.add().scope_spans.add()
        for _ in range(spans):
            scope.spans.add(name="forward")

    decoded = decode_traces(write(request, encoding), encoding)

    assert decoded.refused == {"span": 5}
    assert decoded.message == "this service keeps only logs; spans sent to it are dropped"
    assert decoded.batches == ()


@BOTH
def test_every_data_point_of_every_kind_of_metric_is_counted_as_refused(
    encoding: ContentType,
) -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add().gauge.data_points.add(as_double=1.0)
    for kind in ("sum", "histogram", "exponential_histogram", "summary"):
        points = getattr(metrics.add(), kind).data_points
        points.add()
        points.add()
    metrics.add(name="empty")

    decoded = decode_metrics(write(request, encoding), encoding)

    assert decoded.refused == {"data_point": 9}
    assert decoded.message == "this service keeps only logs; metrics sent to it are dropped"


@BOTH
@pytest.mark.parametrize("decode", [decode_traces, decode_metrics])
def test_an_empty_request_has_nothing_to_refuse(encoding: ContentType, decode: Decode) -> None:
    body = b"" if encoding == "application/x-protobuf" else b"{}"

    decoded = decode(body, encoding)

    assert decoded.refused == {}
    assert decoded.message == ""


@BOTH
@pytest.mark.parametrize("decode", [decode_traces, decode_metrics])
def test_what_cannot_be_decoded_is_an_invalid_request(
    encoding: ContentType, decode: Decode
) -> None:
    with pytest.raises(InvalidRequestError, match=r"^body must be "):
        decode(b"\xff\xff", encoding)
