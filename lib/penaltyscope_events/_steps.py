"""A block of steps as the bytes of its log records, written column by column.

All steps of a block have nearly the same bytes: a template of one step's start and stop record is
repeated, and what differs is pressed into the copies. What changes a record's length (digits of the
step, a task loss, flags, a span) starts a stretch with a template of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._press import Press, bare_form, plain_press, press
from penaltyscope_events._template import SEVERITY_ERROR, SEVERITY_INFO, Form
from penaltyscope_events.block import StepBlock
from penaltyscope_events.plain import PlainSteps

Trace = tuple[bytes, bytes] | None
"""Trace id (16 bytes) and span id (8 bytes) of a step, where there was a span."""

_VARINT_LIMITS = np.array([1 << 7 * digits for digits in range(1, 10)], np.uint64)


def encode_records(
    steps: StepBlock | PlainSteps, traces: Sequence[Trace]
) -> Iterable[bytes | bytearray]:
    """The start and the stop record of every step, as entries of ``ScopeLogs.log_records`` (2).

    They follow each other in pieces of any size.
    """
    if isinstance(steps, PlainSteps):
        if traces.count(None) == len(traces) and (records := _plain(steps)) is not None:
            return (records,)
        steps = steps.block()
    return [_stretch(steps, traces, part, form) for part, form in _stretches(steps, traces)]


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
    step_digits, seq_digits = _digits_of(block.step.tolist()), _digits_of(block.seq.tolist())
    if not step_digits or not seq_digits:
        return None
    return bare_form(step_digits, seq_digits, bool(with_base), terms)


def _digits_of(numbers: Sequence[int]) -> int:
    """Bytes that each takes as a varint; 0 where that is not the same for all."""
    least, most = min(numbers), max(numbers)
    if least < 0:
        return 10 if most < 0 else 0
    digits = (most.bit_length() + 6) // 7 or 1
    return digits if least >> 7 * (digits - 1) or digits == 1 else 0


def _digits(column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes that each number takes as a varint."""
    return _VARINT_LIMITS.searchsorted(column.view(np.uint64), side="right") + 1


def _plain(steps: PlainSteps) -> bytearray | None:
    """Their records, if the numbers of all are as long."""
    if not steps.step:
        return None
    step, seq = _digits_of(steps.step), _digits_of(steps.seq)
    if not step or not seq:
        return None
    one = plain_press(steps.pipeline, steps.incarnation, steps.weights, steps.has_base, step, seq)
    return _Rows(one, steps.cells, steps.step, steps.seq).data


def _stretch(block: StepBlock, traces: Sequence[Trace], part: slice, form: Form) -> bytearray:
    one = press(block.pipeline, block.incarnation, form)
    rows = _Rows(one, _cells(block, part), block.step[part], block.seq[part])
    if form.traced:
        ids = b"".join(trace + span for trace, span in filter(None, traces[part]))
        both = np.frombuffer(ids, np.uint8).reshape(-1, 24)
        rows.write_twice("trace", both[:, :16])
        rows.write_twice("span", both[:, 16:])
    if (form.flagged or form.has_base) and np.count_nonzero(nonfinite := block.nonfinite[part]):
        severity = np.where(nonfinite, SEVERITY_ERROR, SEVERITY_INFO).astype(np.uint8)
        rows.bytes_at("severity", 1)[...] = severity[:, None]
    if form.flagged:
        rows.write_flags(block.flags[part], np.array(form.wide_flags, bool))
    return rows.data


def _cells(block: StepBlock, part: slice) -> NDArray[np.float64]:
    """As ``press`` takes them without weights of its own."""
    arrays = block.value, block.contribution, block.gradient_norm, block.weight
    scalars = block.duration, block.base, block.total, block.total_gradient_norm
    count, terms = part.stop - part.start, len(block.terms)
    cells = np.empty((count, 6 + 4 * terms))
    times = cells.view(np.int64)
    times[:, 0], times[:, 1] = block.start_ns[part], block.stop_ns[part]
    for column, scalar in enumerate(scalars, start=2):
        cells[:, column] = scalar[part]
    for i, array in enumerate(arrays):
        cells[:, 6 + i * terms : 6 + (i + 1) * terms] = array[part]
    return cells


class _Rows:
    """Copies of the bytes of one step, with other numbers in each."""

    def __init__(
        self,
        form: Press,
        cells: NDArray[np.float64],
        step: NDArray[np.int64] | Sequence[int],
        seq: NDArray[np.int64] | Sequence[int],
    ) -> None:
        self._count = count = len(step)
        self._press = form
        self.data = bytearray(form.data) * count
        np.ndarray(count, form.cells.target, self.data)[...] = np.ndarray(
            count, form.cells.source, cells
        )
        numbers = np.array((step, seq), np.int64).view(np.uint64).T[:, :, None]
        digits = np.right_shift(numbers, form.shifts, order="C")
        digits |= form.more
        np.ndarray(count, form.digits.target, self.data)[...] = np.ndarray(
            count, form.digits.source, digits
        )

    def write_twice(self, what: str, column: NDArray[np.uint8]) -> None:
        """Puts ``[N, B]`` bytes in place in both records."""
        slots = self._press.slots
        first = slots[f"start {what}"]
        strides = len(self._press.data), slots[f"stop {what}"] - first, 1
        shape = len(column), 2, column.shape[1]
        np.ndarray(shape, np.uint8, self.data, first, strides)[...] = column[:, None]

    def write_flags(self, flags: NDArray[np.int32], wide: NDArray[np.bool_]) -> None:
        """Puts ``[N, T]`` flags of one or two bytes in place."""
        # tag, length, tag and the first byte; then the second of those that have one
        ends = np.cumsum(4 + wide)
        every = self.bytes_at(names.TERM_FLAGS, int(ends[-1]))
        first = ends - 1 - wide
        every[:, first] = flags & 0x7F | np.where(wide, 0x80, 0)
        every[:, first[wide] + 1] = flags[:, wide] >> 7

    def bytes_at(self, slot: str, size: int) -> NDArray[np.uint8]:
        """``[N, B]``, so many bytes of each step."""
        shape, strides = (self._count, size), (len(self._press.data), 1)
        return np.ndarray(shape, np.uint8, self.data, self._press.slots[slot], strides)
