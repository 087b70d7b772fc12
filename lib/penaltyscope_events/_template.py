"""The bytes of one step's start and stop record, with places for what differs from step to step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from penaltyscope_events import names
from penaltyscope_events._protobuf import attribute, message, varint

SEVERITY_INFO = 9
SEVERITY_ERROR = 17
DOUBLE_STRIDE = 11
"""Bytes of a double in an ArrayValue: values (1), length 9, double_value (4), and the double."""


class Form(NamedTuple):
    """What the bytes of a step's records depend on, but for the numbers that are filled in."""

    step: int
    """The least of all steps that take as many bytes, in place of them."""
    seq: int
    has_base: bool
    traced: bool
    flagged: bool
    wide_flags: tuple[bool, ...]
    """For each term, whether its flags take two bytes."""


@dataclass(frozen=True, slots=True)
class Template:
    """The bytes of one step, and where its numbers stand in them."""

    data: bytes
    slots: dict[str, int]


class _Field(NamedTuple):
    """A part of a record that ends with a number to be filled in, or with nothing."""

    data: bytes
    slot: str = ""
    size: int = 0
    """Bytes from the start of the slot to the end of the data."""


@lru_cache(maxsize=64)
def template(pipeline: str, incarnation: str, terms: int, form: Form) -> Template:
    """Both records, the start first."""
    common = _Field(attribute(names.PIPELINE, pipeline) + attribute(names.INCARNATION, incarnation))
    start = [
        *_head("start", form),
        common,
        _Field(attribute(names.TERM_COUNT, terms)),
        _Field(message(0x62, names.PIPELINE_START.encode())),
        *_ids("start", form),
    ]
    scalars = [names.DURATION, names.TOTAL, names.TOTAL_GRADIENT_NORM]
    if form.has_base:
        scalars.insert(1, names.BASE)
    arrays = names.TERM_WEIGHT, names.TERM_VALUE, names.TERM_CONTRIBUTION, names.TERM_GRADIENT_NORM
    stop = [
        *_head("stop", form),
        common,
        _Field(message(0x62, names.PIPELINE_STOP.encode())),
        *(_Field(attribute(name, 0.0), name, 8) for name in scalars),
        *(
            _Field(attribute(name, (0.0,) * terms), name, max(terms * DOUBLE_STRIDE - 3, 0))
            for name in arrays
        ),
        *_flags(form),
        *_ids("stop", form),
    ]
    first, second = _record(start), _record(stop)
    slots = first.slots | {slot: len(first.data) + at for slot, at in second.slots.items()}
    return Template(first.data + second.data, slots)


def _head(record: str, form: Form) -> list[_Field]:
    """Both times (1, 11), the severity (2) and the numbers that count."""
    return [
        _Field(b"\x09" + bytes(8) + b"\x59" + bytes(8), f"{record} times", 17),
        _Field(bytes((0x10, SEVERITY_INFO)), "severity" if record == "stop" else "", 1),
        *(
            _Field(attribute(name, number), f"{record} {what}", len(varint(number)))
            for what, name, number in (
                ("step", names.STEP, form.step),
                ("seq", names.SEQ, form.seq),
            )
        ),
    ]


def _flags(form: Form) -> list[_Field]:
    if not form.flagged:
        return []
    data = attribute(names.TERM_FLAGS, tuple(0x80 if wide else 0 for wide in form.wide_flags))
    return [_Field(data, names.TERM_FLAGS, sum(5 if wide else 4 for wide in form.wide_flags))]


def _ids(record: str, form: Form) -> list[_Field]:
    """``trace_id`` (9) and ``span_id`` (10)."""
    if not form.traced:
        return []
    return [
        _Field(message(0x4A, bytes(16)), f"{record} trace", 16),
        _Field(message(0x52, bytes(8)), f"{record} span", 8),
    ]


def _record(fields: Sequence[_Field]) -> Template:
    body = b""
    slots = {}
    for field in fields:
        body += field.data
        if field.slot:
            slots[field.slot] = len(body) - field.size
    data = message(0x12, body)
    head = len(data) - len(body)
    return Template(data, {slot: head + at for slot, at in slots.items()})
