"""A block of steps as the bytes of its log records, written column by column.

All steps of a block have nearly the same bytes: a template of one step's start and stop record is
repeated, and the columns are written into the copies through strided views. What changes a record's
length (digits of the step, a task loss, flags, a span) starts a stretch with a template of its own.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._template import (
    DOUBLE_STRIDE,
    SEVERITY_ERROR,
    SEVERITY_INFO,
    Form,
    Template,
    template,
)
from penaltyscope_events.block import StepBlock
from penaltyscope_events.plain import PlainSteps

Trace = tuple[bytes, bytes] | None
"""Trace id (16 bytes) and span id (8 bytes) of a step, where there was a span."""

_DOUBLE, _INTEGER, _BYTE = np.dtype("<f8"), np.dtype("<i8"), np.dtype("u1")
_NUMBERS = (
    names.DURATION,
    names.BASE,
    names.TOTAL,
    names.TOTAL_GRADIENT_NORM,
    names.TERM_VALUE,
    names.TERM_WEIGHT,
    names.TERM_CONTRIBUTION,
    names.TERM_GRADIENT_NORM,
)
_TIME_STRIDE = 9
"""Bytes from the time of a record to the time it was observed: the one, and the other's tag."""
_VARINT_LIMITS = np.array([1 << 7 * digits for digits in range(1, 10)], np.uint64)


def encode_records(steps: StepBlock | PlainSteps, traces: Sequence[Trace]) -> Iterator[bytearray]:
    """The start and the stop record of every step, as entries of ``ScopeLogs.log_records`` (2).

    They follow each other in pieces of any size.
    """
    if not isinstance(steps, PlainSteps):
        block = steps
    elif (only := _plain_form(steps, traces)) is not None:
        yield _plain(steps, only)
        return
    else:
        block = steps.block()
    for part, form in _stretches(block, traces):
        yield _stretch(block, traces, part, form)


def _stretches(block: StepBlock, traces: Sequence[Trace]) -> Iterator[tuple[slice, Form]]:
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
            yield slice(first, last), Form(step, seq, base, traced, flagged, tuple(wide))


def _only_form(block: StepBlock, traces: Sequence[Trace]) -> Form | None:
    """That of all steps, if none has flags or a span: what most blocks are, for little."""
    count, terms = block.flags.shape
    with_base = np.count_nonzero(block.has_base)
    if with_base % count or traces.count(None) < count or np.count_nonzero(block.flags):
        return None
    # So few that Python is quicker.
    return _bare_form(block.step.tolist(), block.seq.tolist(), bool(with_base), terms)


def _plain_form(steps: PlainSteps, traces: Sequence[Trace]) -> Form | None:
    if not steps.step or traces.count(None) < len(traces):
        return None
    return _bare_form(steps.step, steps.seq, steps.has_base, len(steps.terms))


def _bare_form(step: Sequence[int], seq: Sequence[int], has_base: bool, terms: int) -> Form | None:
    """That of steps without flags and spans, if their numbers are all as long."""
    step_digits, seq_digits = _digits_of(min(step)), _digits_of(min(seq))
    if step_digits != _digits_of(max(step)) or seq_digits != _digits_of(max(seq)):
        return None
    return Form(
        step_digits,
        seq_digits,
        has_base=has_base,
        traced=False,
        flagged=False,
        wide_flags=(False,) * terms,
    )


def _digits_of(number: int) -> int:
    return max((number.bit_length() + 6) // 7, 1) if number >= 0 else 10


def _digits(column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes that each number takes as a varint."""
    return _VARINT_LIMITS.searchsorted(column.view(np.uint64), side="right") + 1


def _plain(steps: PlainSteps, form: Form) -> bytearray:
    terms, numbers = len(steps.terms), steps.numbers
    rows = _Rows(template(steps.pipeline, steps.incarnation, terms, form), len(steps.step))
    counted = np.array((steps.start_ns, steps.stop_ns, steps.step, steps.seq), np.int64)
    rows.write_times(counted[:2])
    rows.write_counts(counted[2:], form)
    rows.write_numbers(
        *numbers.T[:4],
        numbers[:, 4 : 4 + terms],
        steps.weight,
        numbers[:, 4 + terms : 4 + 2 * terms],
        numbers[:, 4 + 2 * terms :],
    )
    return rows.data


def _stretch(block: StepBlock, traces: Sequence[Trace], part: slice, form: Form) -> bytearray:
    bytes_of_one = template(block.pipeline, block.incarnation, len(block.terms), form)
    rows = _Rows(bytes_of_one, part.stop - part.start)
    columns = block.start_ns, block.stop_ns, block.step, block.seq
    counted = np.array([column[part] for column in columns], np.int64)
    rows.write_times(counted[:2])
    rows.write_counts(counted[2:], form)
    if form.traced:
        ids = b"".join(trace + span for trace, span in filter(None, traces[part]))
        both = np.frombuffer(ids, np.uint8).reshape(-1, 24)
        rows.write_twice("trace", both[:, :16])
        rows.write_twice("span", both[:, 16:])
    if (form.flagged or form.has_base) and np.count_nonzero(nonfinite := block.nonfinite[part]):
        severity = np.where(nonfinite, SEVERITY_ERROR, SEVERITY_INFO).astype(np.uint8)
        rows.write_bytes("severity", severity[:, None])
    rows.write_numbers(
        block.duration[part],
        block.base[part],
        block.total[part],
        block.total_gradient_norm[part],
        block.value[part],
        block.weight[part],
        block.contribution[part],
        block.gradient_norm[part],
    )
    if form.flagged:
        rows.write_flags(block.flags[part], np.array(form.wide_flags, bool))
    return rows.data


@lru_cache(maxsize=64)
def _varint(*digits: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """For columns of numbers of so many bytes: what makes the ``D`` bytes of the longest.

    By how much a number is shifted for each of them, ``[D, 1, 1]``; and what tells that another
    follows, ``[D, C, 1]``.
    """
    most = max(digits)
    more = [[0x80 if place < last - 1 else 0 for last in digits] for place in range(most)]
    shifts = 7 * np.arange(most, dtype=np.uint64)
    return shifts[:, None, None], np.array(more, np.uint64)[:, :, None]


class _Rows:
    """Copies of a template, one for each step."""

    def __init__(self, one: Template, count: int) -> None:
        self.data = bytearray(one.data) * count
        self._count = count
        self._slots = one.slots
        self._width = len(one.data)

    def write_numbers(self, *columns: NDArray[np.float64]) -> None:
        """Puts ``[N]`` doubles, or ``[N, T]`` or ``[1, T]`` elements of an array, in their places.

        There is one for each of ``_NUMBERS``; those that have no place are passed over.
        """
        for slot, column in zip(_NUMBERS, columns, strict=True):
            if slot in self._slots:
                shape = self._count, *column.shape[1:]
                self._view(slot, shape, _DOUBLE, DOUBLE_STRIDE)[...] = column

    def write_times(self, times_ns: NDArray[np.int64]) -> None:
        """Puts ``[2, N]`` times of start and stop in both of their places."""
        first = self._slots["start times"]
        strides = self._width, self._slots["stop times"] - first, _TIME_STRIDE
        shape = times_ns.shape[1], 2, 2
        np.ndarray(shape, _INTEGER, self.data, first, strides)[...] = times_ns.T[:, :, None]

    def write_counts(self, counts: NDArray[np.int64], form: Form) -> None:
        """Puts ``[2, N]`` numbers of step and evaluation in place, seven bits a byte."""
        step, seq = form.step_digits, form.seq_digits
        shifts, more = _varint(step, seq)
        # The lowest first, and digit by digit: arrays are quick along their long side only.
        digits = counts.view(np.uint64) >> shifts | more
        self.write_twice("step", digits[:step, 0].T)
        self.write_twice("seq", digits[:seq, 1].T)

    def write_bytes(self, slot: str, column: NDArray[np.uint8]) -> None:
        """Puts ``[N, B]`` bytes in place."""
        self._view(slot, column.shape, _BYTE, 1)[...] = column

    def write_twice(self, what: str, column: NDArray[np.unsignedinteger[Any]]) -> None:
        """Puts ``[N, B]`` bytes, the lowest of each number, in place in both records."""
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
