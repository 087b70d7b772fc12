"""A block of steps as the bytes of its log records, written column by column.

All steps of a block have nearly the same bytes: a template of one step's start and stop record is
repeated, and the columns are written into the copies through strided views. What changes a record's
length (digits of the step, a task loss, flags, a span) starts a stretch with a template of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._protobuf import attribute, message
from penaltyscope_events.block import StepBlock

Trace = tuple[bytes, bytes] | None
"""Trace id (16 bytes) and span id (8 bytes) of a step, where there was a span."""

SEVERITY_INFO = 9
SEVERITY_ERROR = 17

_DOUBLE, _INTEGER, _BYTE = np.dtype("<f8"), np.dtype("<i8"), np.dtype("u1")
_DOUBLE_STRIDE = 11
"""Bytes of a double in an ArrayValue: values (1), length 9, double_value (4), and the double."""
_TIME_STRIDE = 9
"""Bytes from the time of a record to the time it was observed: the one, and the other's tag."""
_SHIFTS = 7 * np.arange(10, dtype=np.uint64)[:, None]
_MORE = np.array([0x80] * 9 + [0], np.uint64)[:, None]
"""What tells that another byte follows: in all but the last."""
_VARINT_LIMITS = np.array([1 << 7 * digits for digits in range(1, 10)], np.uint64)


def encode_records(block: StepBlock, traces: Sequence[Trace]) -> Iterator[bytearray]:
    """The start and the stop record of every step, as entries of ``ScopeLogs.log_records`` (2).

    They follow each other in pieces of any size.
    """
    for part, form in _stretches(block, traces):
        yield _stretch(block, traces, part, form)


class _Form(NamedTuple):
    """What the lengths of a step's records depend on."""

    step_digits: int
    seq_digits: int
    has_base: bool
    traced: bool
    flagged: bool
    wide_flags: tuple[bool, ...]
    """For each term, whether its flags take two bytes."""


def _stretches(block: StepBlock, traces: Sequence[Trace]) -> Iterator[tuple[slice, _Form]]:
    count, terms = block.flags.shape
    if count and (only := _only_form(block, traces)) is not None:
        yield slice(0, count), only
        return
    forms = np.zeros((5 + terms, count), np.int8)
    forms[0] = _digits(block.step)
    forms[1] = _digits(block.seq)
    forms[2] = block.has_base
    if traces.count(None) < count:
        forms[3] = [trace is not None for trace in traces]
    if block.flags.any():
        forms[4] = (block.flags != 0).any(axis=1)
        forms[5:] = (block.flags >= 0x80).T
    starts = np.flatnonzero((forms[:, 1:] != forms[:, :-1]).any(axis=0)) + 1
    for first, last in pairwise((0, *starts.tolist(), count)):
        if first < last:
            step, seq, *rest = forms[:, first].tolist()
            base, traced, flagged, *wide = map(bool, rest)
            yield slice(first, last), _Form(step, seq, base, traced, flagged, tuple(wide))


def _only_form(block: StepBlock, traces: Sequence[Trace]) -> _Form | None:
    """That of all steps, if none has flags or a span: what most blocks are, for little."""
    count, terms = block.flags.shape
    with_base = np.count_nonzero(block.has_base)
    if with_base % count or traces.count(None) < count or np.count_nonzero(block.flags):
        return None
    digits = []
    for column in (block.step, block.seq):
        numbers = column.tolist()  # so few that Python is quicker
        least = _digits_of(min(numbers))
        if least != _digits_of(max(numbers)):
            return None
        digits.append(least)
    return _Form(
        digits[0],
        digits[1],
        has_base=bool(with_base),
        traced=False,
        flagged=False,
        wide_flags=(False,) * terms,
    )


def _digits_of(number: int) -> int:
    return max((number.bit_length() + 6) // 7, 1) if number >= 0 else 10


def _digits(column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes that each number takes as a varint."""
    return _VARINT_LIMITS.searchsorted(column.view(np.uint64), side="right") + 1


def _stretch(block: StepBlock, traces: Sequence[Trace], part: slice, form: _Form) -> bytearray:
    template = _template(block.pipeline, block.incarnation, len(block.terms), form)
    rows = _Rows(template, part.stop - part.start)
    step = _varints(block.step[part], form.step_digits)
    seq = _varints(block.seq[part], form.seq_digits)
    rows.write_times("start times", block.start_ns[part])
    rows.write_times("stop times", block.stop_ns[part])
    rows.write_twice("step", step)
    rows.write_twice("seq", seq)
    if form.traced:
        ids = b"".join(trace + span for trace, span in filter(None, traces[part]))
        both = np.frombuffer(ids, np.uint8).reshape(-1, 24)
        rows.write_twice("trace", both[:, :16])
        rows.write_twice("span", both[:, 16:])
    if (form.flagged or form.has_base) and np.count_nonzero(nonfinite := block.nonfinite[part]):
        severity = np.where(nonfinite, SEVERITY_ERROR, SEVERITY_INFO).astype(np.uint8)
        rows.write_bytes("severity", severity[:, None])
    if form.has_base:
        rows.write(names.BASE, block.base[part])
    rows.write(names.DURATION, block.duration[part])
    rows.write(names.TOTAL, block.total[part])
    rows.write(names.TOTAL_GRADIENT_NORM, block.total_gradient_norm[part])
    rows.write(names.TERM_VALUE, block.value[part])
    rows.write(names.TERM_WEIGHT, block.weight[part])
    rows.write(names.TERM_CONTRIBUTION, block.contribution[part])
    rows.write(names.TERM_GRADIENT_NORM, block.gradient_norm[part])
    if form.flagged:
        rows.write_flags(block.flags[part], np.array(form.wide_flags, bool))
    return rows.data


def _varints(column: NDArray[np.int64], digits: int) -> NDArray[np.uint8]:
    """``[N, digits]``: numbers of that many bytes each, seven bits a byte, the lowest first."""
    shifts, more = _SHIFTS[:digits], _MORE[-digits:]
    # Digit by digit: arrays are quick along their long side only.
    bytes_ = (column.view(np.uint64) >> shifts | more).astype(np.uint8)
    return bytes_.T


@dataclass(frozen=True, slots=True)
class _Template:
    """The bytes of one step, and where its numbers stand in them."""

    data: bytes
    slots: dict[str, int]


class _Rows:
    """Copies of a template, one for each step."""

    def __init__(self, template: _Template, count: int) -> None:
        self.data = bytearray(template.data) * count
        self._slots = template.slots
        self._width = len(template.data)

    def write(self, slot: str, column: NDArray[np.float64]) -> None:
        """Puts ``[N]`` doubles, or ``[N, T]`` elements of an array, in place."""
        self._view(slot, column.shape, _DOUBLE, _DOUBLE_STRIDE)[...] = column

    def write_times(self, slot: str, time_ns: NDArray[np.int64]) -> None:
        """Puts ``[N]`` times in both of their places."""
        self._view(slot, (len(time_ns), 2), _INTEGER, _TIME_STRIDE)[...] = time_ns[:, None]

    def write_bytes(self, slot: str, column: NDArray[np.uint8]) -> None:
        """Puts ``[N, B]`` bytes in place."""
        self._view(slot, column.shape, _BYTE, 1)[...] = column

    def write_twice(self, what: str, column: NDArray[np.uint8]) -> None:
        """Puts ``[N, B]`` bytes in place in the start and in the stop record."""
        first = self._slots[f"start {what}"]
        strides = self._width, self._slots[f"stop {what}"] - first, 1
        shape = len(column), 2, column.shape[1]
        np.ndarray(shape, _BYTE, self.data, first, strides)[...] = column[:, None]

    def write_flags(self, flags: NDArray[np.int32], wide: NDArray[np.bool_]) -> None:
        """Puts ``[N, T]`` flags of one or two bytes in place."""
        # tag, length, tag and the first byte; then the second of those that have one
        ends = np.cumsum(4 + wide)
        every = self._view(names.TERM_FLAGS, (len(flags), int(ends[-1])), _BYTE, 1)
        first = ends - 1 - wide
        every[:, first] = flags & 0x7F | np.where(wide, 0x80, 0)
        every[:, first[wide] + 1] = flags[:, wide] >> 7

    def _view(
        self, slot: str, shape: tuple[int, ...], dtype: np.dtype[Any], stride: int
    ) -> NDArray[Any]:
        strides = (self._width, stride)[: len(shape)]
        return np.ndarray(shape, dtype, self.data, self._slots[slot], strides)


class _Field(NamedTuple):
    """A part of a record that ends with a number to be filled in, or with nothing."""

    data: bytes
    slot: str = ""
    size: int = 0
    """Bytes from the start of the slot to the end of the data."""


@lru_cache(maxsize=64)
def _template(pipeline: str, incarnation: str, terms: int, form: _Form) -> _Template:
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
            _Field(attribute(name, (0.0,) * terms), name, max(terms * _DOUBLE_STRIDE - 3, 0))
            for name in arrays
        ),
        *_flags(form),
        *_ids("stop", form),
    ]
    first, second = _record(start), _record(stop)
    slots = first.slots | {slot: len(first.data) + at for slot, at in second.slots.items()}
    return _Template(first.data + second.data, slots)


def _head(record: str, form: _Form) -> list[_Field]:
    """Both times (1, 11), the severity (2) and the numbers that count."""
    step, seq = (
        attribute(name, (1 << 7 * digits) - 1 if digits < 10 else -1)
        for name, digits in ((names.STEP, form.step_digits), (names.SEQ, form.seq_digits))
    )
    return [
        _Field(b"\x09" + bytes(8) + b"\x59" + bytes(8), f"{record} times", 17),
        _Field(bytes((0x10, SEVERITY_INFO)), "severity" if record == "stop" else "", 1),
        _Field(step, f"{record} step", form.step_digits),
        _Field(seq, f"{record} seq", form.seq_digits),
    ]


def _flags(form: _Form) -> list[_Field]:
    if not form.flagged:
        return []
    data = attribute(names.TERM_FLAGS, tuple(0x80 if wide else 0 for wide in form.wide_flags))
    return [_Field(data, names.TERM_FLAGS, sum(5 if wide else 4 for wide in form.wide_flags))]


def _ids(record: str, form: _Form) -> list[_Field]:
    """``trace_id`` (9) and ``span_id`` (10)."""
    if not form.traced:
        return []
    return [
        _Field(message(0x4A, bytes(16)), f"{record} trace", 16),
        _Field(message(0x52, bytes(8)), f"{record} span", 8),
    ]


def _record(fields: Sequence[_Field]) -> _Template:
    body = b""
    slots = {}
    for field in fields:
        body += field.data
        if field.slot:
            slots[field.slot] = len(body) - field.size
    data = message(0x12, body)
    head = len(data) - len(body)
    return _Template(data, {slot: head + at for slot, at in slots.items()})
