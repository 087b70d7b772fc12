"""Requests of single records, made by hand with the stock messages, in both encodings."""

from collections.abc import Mapping
from typing import Final

import orjson
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.util import types

from penaltyscope_events import StepBlock
from penaltyscope_service.decode import ContentType, Decoded, decode_logs

Attributes = Mapping[str, object]

TIME_NS: Final = 1_700_000_000_000_000_000
RESOURCE: Final[Mapping[str, types.AnyValue]] = {"penaltyscope.run.id": "resnet-kd-7"}
STOP: Final[Mapping[str, types.AnyValue]] = {
    "penaltyscope.pipeline": "distillation",
    "penaltyscope.incarnation": "first",
    "penaltyscope.step": 10,
    "penaltyscope.seq": 1,
    "penaltyscope.duration": 0.25,
    "penaltyscope.total": 3.0,
    "penaltyscope.term.names": ["sparsity", "distill"],
    "penaltyscope.term.value": [1.0, 2.0],
    "penaltyscope.term.weight": [1.0, 1.0],
    "penaltyscope.term.contribution": [1.0, 2.0],
    "penaltyscope.term.gradient_norm": [0.5, 0.75],
}
"""Of a good stop record."""


def stop(changes: Attributes | None = None, *, without: str = "", **fields: int) -> LogRecord:
    """A stop record with some attributes changed and one left out."""
    attributes = {**STOP, **(changes or {})}
    attributes.pop(without, None)
    return record("penaltyscope.pipeline.stop", attributes, **fields)


def record(event_name: str, attributes: Attributes, **fields: int) -> LogRecord:
    """A log record, with the given integer fields."""
    made = LogRecord(
        event_name=event_name, attributes=_key_values(attributes), time_unix_nano=TIME_NS
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def encode(
    content_type: ContentType,
    *records: LogRecord,
    resource: Attributes = RESOURCE,
    scope: Attributes | None = None,
) -> bytes:
    """A request with the records of one scope."""
    message = ExportLogsServiceRequest()
    resource_logs = message.resource_logs.add()
    resource_logs.resource.attributes.extend(_key_values(resource))
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.attributes.extend(_key_values(scope or {}))
    scope_logs.log_records.extend(records)
    if content_type == "application/x-protobuf":
        return message.SerializeToString()
    return orjson.dumps(json_format.MessageToDict(message, use_integers_for_enums=True))


def decode(
    content_type: ContentType,
    *records: LogRecord,
    resource: Attributes = RESOURCE,
    scope: Attributes | None = None,
    received_ns: int = 0,
) -> Decoded:
    """What the service makes of the records, sent in that encoding."""
    body = encode(content_type, *records, resource=resource, scope=scope)
    return decode_logs(body, content_type, received_ns=received_ns)


def only_block(decoded: Decoded) -> StepBlock:
    """The block of a request that has one."""
    ((block,),) = (batch.steps for batch in decoded.batches)
    return block


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: object) -> AnyValue:
    match value:
        case AnyValue():
            return value
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(_any_value, value)))
        case _:
            raise TypeError(f"value must be a kind of AnyValue, got {value!r}.")
