"""Reads an ``ExportLogsServiceRequest`` in protobuf with the stock messages, one by one.

Reference: opentelemetry/proto/logs/v1/logs.proto.
"""

import struct
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from penaltyscope_service.decode._record import (
    KEPT,
    SEVERITY_ERROR,
    Attributes,
    InvalidRequestError,
    Record,
    Scalar,
    Value,
)
from penaltyscope_service.decode._resource import Resource, Scope, Speaker
from penaltyscope_service.decode._step import ScopeTerms


def read_stock(body: bytes) -> Iterator[Resource]:
    """The resources of a request, in order.

    Raises:
        InvalidRequestError: if the body is not such a message.
    """
    for resource_logs in _parse(body).resource_logs:
        scopes = (
            Scope(
                ScopeTerms(_attributes(scope_logs.scope.attributes)),
                map(_record, scope_logs.log_records),
            )
            for scope_logs in resource_logs.scope_logs
        )
        yield Resource(Speaker(_attributes(resource_logs.resource.attributes)), scopes)


def read_stock_records(body: bytes) -> Iterator[Record]:
    """The records of a request, whoever sent them; raises as :func:`read_stock` does."""
    for resource_logs in _parse(body).resource_logs:
        for scope_logs in resource_logs.scope_logs:
            yield from map(_record, scope_logs.log_records)


def _parse(body: bytes) -> ExportLogsServiceRequest:
    try:
        return ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(
            f"body must be a protobuf ExportLogsServiceRequest: {error}."
        ) from error


def _record(record: LogRecord) -> Record:
    return Record(
        record.event_name,
        record.time_unix_nano or record.observed_time_unix_nano,
        record.severity_number >= SEVERITY_ERROR,
        _attributes(record.attributes) if record.event_name in KEPT else {},
    )


def _attributes(attributes: Iterable[KeyValue]) -> Attributes:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "double_value":
            return value.double_value
        case "array_value":
            return _array(value.array_value)
        case _:
            return _scalar(value)


def _array(array: ArrayValue) -> list[Scalar]:
    # Asking every element what it is costs five times as much as writing the list out again,
    # where a double is always values (1), length 9, double_value (4) and 8 bytes.
    raw = array.SerializeToString()
    count, rest = divmod(len(raw), 11)
    heads = raw[0::11] + raw[1::11] + raw[2::11]
    if not rest and heads == b"\x0a" * count + b"\x09" * count + b"\x21" * count:
        return list(struct.unpack("<" + "3xd" * count, raw))
    return [_scalar(item) for item in array.values]


def _scalar(value: AnyValue) -> Scalar:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case _:
            return None
