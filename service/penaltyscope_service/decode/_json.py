"""Reads an ``ExportLogsServiceRequest`` in OTLP/JSON.

Protobuf's own JSON reader takes ids for base64, while OTLP writes them in hex, and it makes an
object per number; so the parsed document is walked directly. Ids are not looked at.
"""

from collections.abc import Callable, Iterator
from math import nan
from typing import Final

from penaltyscope_service.decode._json_field import (
    Message,
    boolean,
    child,
    double,
    int64,
    messages,
    optional,
    parse,
    string,
    uint64,
)
from penaltyscope_service.decode._record import (
    KEPT,
    SEVERITY_ERROR,
    Attributes,
    Record,
    Scalar,
    Value,
)
from penaltyscope_service.decode._resource import Resource, Scope, Speaker
from penaltyscope_service.decode._step import ScopeTerms

_SCALARS: Final[dict[str, Callable[[str, object], Scalar]]] = {
    "doubleValue": double,
    "stringValue": string,
    "intValue": int64,
    "boolValue": boolean,
}


def read_json(body: bytes) -> Iterator[Resource]:
    """The resources of a request, in order.

    Raises:
        InvalidRequestError: if the body is not JSON, or a field that is read has the wrong type.
    """
    for resource_logs in messages(parse(body), "resourceLogs"):
        scopes = (
            Scope(
                ScopeTerms(_attributes(child(scope_logs, "scope"))),
                map(_record, messages(scope_logs, "logRecords")),
            )
            for scope_logs in messages(resource_logs, "scopeLogs")
        )
        yield Resource(Speaker(_attributes(child(resource_logs, "resource"))), scopes)


def _record(record: Message) -> Record:
    event_name = optional(record, "eventName", string, "")
    time_ns = optional(record, "timeUnixNano", uint64, 0)
    observed_ns = optional(record, "observedTimeUnixNano", uint64, 0)
    return Record(
        event_name,
        time_ns or observed_ns,
        optional(record, "severityNumber", int64, 0) >= SEVERITY_ERROR,
        _attributes(record) if event_name in KEPT else {},
    )


def _attributes(owner: Message) -> Attributes:
    return {
        optional(attribute, "key", string, ""): _value(child(attribute, "value"))
        for attribute in messages(owner, "attributes")
    }


def _value(value: Message) -> Value:
    if value.get("arrayValue") is not None:
        return [_scalar(item) for item in messages(child(value, "arrayValue"), "values")]
    return _scalar(value)


def _scalar(value: Message) -> Scalar:
    for kind, read in _SCALARS.items():
        if value.get(kind) is not None:
            return read(kind, value[kind])
    # JavaScript writes a number that is not finite as null: what it was is lost, that it was not.
    return nan if "doubleValue" in value else None
