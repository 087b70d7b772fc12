"""OTLP log requests in protobuf, written directly: no object per record, none per number.

Reference: opentelemetry/proto/logs/v1/logs.proto; the numbers in brackets are its field numbers.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from penaltyscope_events import names
from penaltyscope_events._protobuf import attribute, head, key_value, message
from penaltyscope_events._steps import Trace, encode_records
from penaltyscope_events._template import SEVERITY_ERROR, SEVERITY_INFO
from penaltyscope_events.block import Event, RunIdentity, StepBlock
from penaltyscope_events.plain import PlainSteps
from penaltyscope_events.records import resource_attributes


def encode_request(identity: RunIdentity, scopes: Iterable[bytes]) -> bytes:
    """An ``ExportLogsServiceRequest`` with one resource and the given ``ScopeLogs`` messages."""
    return enclose(encode_resource(identity), scopes)


def enclose(resource: bytes, scopes: Iterable[bytes]) -> bytes:
    """The same, for a resource that was encoded before."""
    parts = [b"", _field(resource)]
    size = len(parts[1])
    for scope in scopes:
        before = head(0x12, len(scope))
        parts.append(before)
        parts.append(scope)
        size += len(before) + len(scope)
    parts[0] = head(0x0A, size)
    return b"".join(parts)


def encode_resource(identity: RunIdentity) -> bytes:
    """The ``Resource`` message that names run, rank and host."""
    attributes = resource_attributes(identity)
    return b"".join(message(0x0A, key_value(k, v)) for k, v in attributes.items())


def encode_events(events: Sequence[Event]) -> bytes:
    """A ``ScopeLogs`` message with one record per event."""
    return _scope(None) + b"".join(message(0x12, _event_record(event)) for event in events)


def encode_steps(steps: StepBlock | PlainSteps, traces: Sequence[Trace] = ()) -> bytes:
    """A ``ScopeLogs`` message with a start and a stop record per step; term names on the scope.

    Args:
        steps: the steps.
        traces: trace id (16 bytes) and span id (8 bytes) of each step, where there was a span.
    """
    return encode_records(steps, traces or (None,) * len(steps), _scope(steps.terms))


def _event_record(event: Event) -> bytes:
    severity = SEVERITY_ERROR if event.error else SEVERITY_INFO
    return (
        # Both times (1, 11) and the severity (2).
        struct.pack("<BQBQBB", 0x09, event.time_ns, 0x59, event.time_ns, 0x10, severity)
        + b"".join(attribute(key, value) for key, value in event.attributes.items())
        + message(0x62, event.name.encode())
    )


@lru_cache(maxsize=64)
def _field(resource: bytes) -> bytes:
    return message(0x0A, resource)


@lru_cache(maxsize=64)
def _scope(terms: tuple[str, ...] | None) -> bytes:
    """The ``scope`` field of a ``ScopeLogs``."""
    scope = message(0x0A, names.SCOPE_NAME.encode()) + message(0x12, names.SCHEMA_VERSION.encode())
    if terms is not None:
        scope += message(0x1A, key_value(names.TERM_NAMES, terms))
    return message(0x0A, scope)
