"""Spans and metrics: counted and refused, since this service keeps only logs.

A job that sends all of its signals to one endpoint must get no error, and must not be led to
believe that they are kept either: a partial success says both.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penaltyscope_service.decode._batch import Decoded
from penaltyscope_service.decode._json_field import Message, child, messages, parse
from penaltyscope_service.decode._record import InvalidRequestError
from penaltyscope_service.decode._request import ContentType

UNKEPT: Final = ("span", "data_point")
"""The reasons under which they are counted as refused."""

_METRIC_KINDS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def decode_traces(body: bytes, content_type: ContentType, *, received_ns: int = 0) -> Decoded:
    """Counts the spans of an ``ExportTraceServiceRequest``; see :func:`decode_logs`."""
    del received_ns
    if content_type == "application/json":
        path = ("resourceSpans", "scopeSpans", "spans")
        return _refused("span", "spans", len(_descend(parse(body), path)))
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(
            f"body must be a protobuf ExportTraceServiceRequest: {error}."
        ) from error
    count = sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)
    return _refused("span", "spans", count)


def decode_metrics(body: bytes, content_type: ContentType, *, received_ns: int = 0) -> Decoded:
    """Counts the data points of an ``ExportMetricsServiceRequest``; see :func:`decode_logs`."""
    del received_ns
    if content_type == "application/json":
        path = ("resourceMetrics", "scopeMetrics", "metrics")
        return _refused("data_point", "metrics", sum(_points(_descend(parse(body), path))))
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(
            f"body must be a protobuf ExportMetricsServiceRequest: {error}."
        ) from error
    count = 0
    for group in request.resource_metrics:
        for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
            kind = metric.WhichOneof("data")
            count += len(getattr(metric, kind).data_points) if kind else 0
    return _refused("data_point", "metrics", count)


def _descend(document: Message, path: Sequence[str]) -> list[Message]:
    """Every message at the end of a path of repeated fields."""
    level = [document]
    for name in path:
        level = [item for owner in level for item in messages(owner, name)]
    return level


def _points(metrics: Iterable[Message]) -> Iterable[int]:
    for metric in metrics:
        for kind in _METRIC_KINDS:
            yield len(messages(child(metric, kind), "dataPoints"))


def _refused(reason: str, plural: str, count: int) -> Decoded:
    if not count:
        return Decoded(batches=(), received={}, refused={})
    message = f"this service keeps only logs; {plural} sent to it are dropped"
    return Decoded(batches=(), received={}, refused={reason: count}, message=message)
