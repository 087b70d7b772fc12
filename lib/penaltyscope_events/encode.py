"""OTLP log requests in protobuf, written directly.

Everything in a step's record but four integers has a fixed width, so a block of steps is one byte
matrix made from a template row, and the OpenTelemetry SDK's object per record and per number is
never made. Reference: opentelemetry/proto/logs/v1/logs.proto, common/v1/common.proto; the numbers
beside the tags are their field numbers.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events.block import AttributeValue, Event, RunIdentity, StepBlock
from penaltyscope_events.records import resource_attributes

SEVERITY_INFO = 9
SEVERITY_ERROR = 17

_DOUBLE_ELEMENT = b"\x0a\x09\x21" + bytes(8)
"""One double of an ArrayValue: values (1), length 9, double_value (4)."""


def encode_request(identity: RunIdentity, scopes: Iterable[bytes]) -> bytes:
    """An ``ExportLogsServiceRequest`` with one resource and the given ``ScopeLogs`` messages."""
    body = _message(0x0A, encode_resource(identity)) + b"".join(_message(0x12, s) for s in scopes)
    return _message(0x0A, body)


def encode_resource(identity: RunIdentity) -> bytes:
    """The ``Resource`` message that names run, rank and host."""
    attributes = resource_attributes(identity)
    return b"".join(_message(0x0A, _key_value(k, v)) for k, v in attributes.items())


def encode_events(events: Sequence[Event]) -> bytes:
    """A ``ScopeLogs`` message with one record per event."""
    return _scope({}) + b"".join(_message(0x12, _event_record(event)) for event in events)


def encode_steps(block: StepBlock, traces: Sequence[tuple[bytes, bytes] | None] = ()) -> bytes:
    """A ``ScopeLogs`` message with a start and a stop record per step; term names on the scope.

    Args:
        block: the steps.
        traces: trace id (16 bytes) and span id (8 bytes) of each step, where there was a span.
    """
    scope = _scope({names.TERM_NAMES: block.terms})
    rows = zip(_starts(block), _stops(block), traces or [None] * len(block), strict=True)
    records = (
        _message(0x12, start + _trace(trace)) + _message(0x12, stop + _trace(trace))
        for start, stop, trace in rows
    )
    return scope + b"".join(records)


def _starts(block: StepBlock) -> Iterator[bytes]:
    constant = (
        b"\x10\x09"
        + _attribute(names.PIPELINE, block.pipeline)
        + _attribute(names.INCARNATION, block.incarnation)
        + _attribute(names.TERM_COUNT, len(block.terms))
        + _message(0x62, names.PIPELINE_START.encode())
    )
    for time_ns, step, seq in zip(
        block.start_ns.tolist(), block.step.tolist(), block.seq.tolist(), strict=True
    ):
        yield _times(time_ns) + _attribute(names.STEP, step) + _attribute(names.SEQ, seq) + constant


def _stops(block: StepBlock) -> Iterator[bytes]:
    constant = (
        _attribute(names.PIPELINE, block.pipeline)
        + _attribute(names.INCARNATION, block.incarnation)
        + _message(0x62, names.PIPELINE_STOP.encode())
    )
    numbers = _numbers(block)
    bad = block.nonfinite
    flagged = np.any(block.flags != 0, axis=1)
    for i, (time_ns, step, seq) in enumerate(
        zip(block.stop_ns.tolist(), block.step.tolist(), block.seq.tolist(), strict=True)
    ):
        yield b"".join(
            (
                _times(time_ns),
                b"\x10\x11" if bad[i] else b"\x10\x09",
                _attribute(names.STEP, step),
                _attribute(names.SEQ, seq),
                constant,
                _attribute(names.BASE, float(block.base[i])) if block.has_base[i] else b"",
                numbers[i].tobytes(),
                _flags(tuple(block.flags[i].tolist())) if flagged[i] else b"",
            )
        )


@lru_cache(maxsize=256)
def _flags(flags: tuple[int, ...]) -> bytes:
    # The same few rows come at every step: a term is disabled, or has no gradient.
    return _attribute(names.TERM_FLAGS, flags)


def _numbers(block: StepBlock) -> NDArray[np.uint8]:
    """``[N, bytes]``: the attributes of fixed width of every stop record."""
    scalars = (
        (names.DURATION, block.duration),
        (names.TOTAL, block.total),
        (names.TOTAL_GRADIENT_NORM, block.total_gradient_norm),
    )
    arrays = (
        (names.TERM_VALUE, block.value),
        (names.TERM_WEIGHT, block.weight),
        (names.TERM_CONTRIBUTION, block.contribution),
        (names.TERM_GRADIENT_NORM, block.gradient_norm),
    )
    terms = len(block.terms)
    template = b""
    slots: list[tuple[int, NDArray[np.float64]]] = []
    for name, column in scalars:
        template += _attribute(name, 0.0)
        slots.append((len(template) - 8, column))
    for name, matrix in arrays:
        template += _attribute(name, (0.0,) * terms)
        first = len(template) - terms * len(_DOUBLE_ELEMENT) + 3
        slots += [(first + t * len(_DOUBLE_ELEMENT), matrix[:, t]) for t in range(terms)]
    rows = np.tile(np.frombuffer(template, np.uint8), (len(block), 1))
    for offset, column in slots:
        doubles = np.ascontiguousarray(column, "<f8").view(np.uint8).reshape(len(block), 8)
        rows[:, offset : offset + 8] = doubles
    return rows


def _event_record(event: Event) -> bytes:
    return (
        _times(event.time_ns)
        + (b"\x10\x11" if event.error else b"\x10\x09")
        + b"".join(_attribute(key, value) for key, value in event.attributes.items())
        + _message(0x62, event.name.encode())
    )


def _scope(attributes: dict[str, AttributeValue]) -> bytes:
    """The ``scope`` field of a ``ScopeLogs``."""
    scope = _message(0x0A, names.SCOPE_NAME.encode()) + _message(
        0x12, names.SCHEMA_VERSION.encode()
    )
    return _message(
        0x0A, scope + b"".join(_message(0x1A, _key_value(k, v)) for k, v in attributes.items())
    )


def _times(time_ns: int) -> bytes:
    """``time_unix_nano`` (1) and ``observed_time_unix_nano`` (11), which are the same here."""
    return struct.pack("<BQBQ", 0x09, time_ns, 0x59, time_ns)


def _trace(trace: tuple[bytes, bytes] | None) -> bytes:
    """``trace_id`` (9) and ``span_id`` (10)."""
    return b"" if trace is None else _message(0x4A, trace[0]) + _message(0x52, trace[1])


def _attribute(key: str, value: AttributeValue) -> bytes:
    """One entry of ``LogRecord.attributes`` (6)."""
    return _message(0x32, _key_value(key, value))


def _key_value(key: str, value: AttributeValue) -> bytes:
    return _key(key) + _message(0x12, _any_value(value))


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _message(0x0A, key.encode())


def _any_value(value: AttributeValue) -> bytes:
    match value:
        case str():
            return _message(0x0A, value.encode("utf-8", "replace"))
        case bool():  # before int, whose subclass it is
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + _varint(value)
        case float():
            return struct.pack("<Bd", 0x21, value)
        case tuple():
            return _message(0x2A, b"".join(_message(0x0A, _any_value(item)) for item in value))


def _message(tag: int, body: bytes) -> bytes:
    return _SHORT_VARINTS[tag] + _varint(len(body)) + body


_SHORT_VARINTS = tuple(bytes((number,)) for number in range(0x80))


def _varint(number: int) -> bytes:
    if 0 <= number < 0x80:
        return _SHORT_VARINTS[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers travel as two's complement in 64 bits
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
