"""A block of steps as the bytes of its log records, written column by column.

All steps of a block have nearly the same bytes: a template of one step's start and stop record is
repeated, and what differs is pressed into the copies. What changes a record's length (digits of the
step, a task loss, flags, a span) starts a stretch with a template of its own.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._digits import stand_in, stand_ins
from penaltyscope_events._press import Copies, Press, bare_form, plain_press, press
from penaltyscope_events._template import SEVERITY_ERROR, SEVERITY_INFO, Form
from penaltyscope_events.block import StepBlock
from penaltyscope_events.plain import PlainSteps

Trace = tuple[bytes, bytes] | None
"""Trace id (16 bytes) and span id (8 bytes) of a step, where there was a span."""

_NOTHING = np.zeros(0, np.bool_)
_SPARE_COPIES = 128
"""Steps that differ in their numbers only are pressed into copies that are kept, so many at once;
memory that is new, or freed every time, would cost page faults too."""


def encode_records(
    steps: StepBlock | PlainSteps, traces: Sequence[Trace], head: bytes = b""
) -> bytes:
    """The start and the stop record of every step, as entries of ``ScopeLogs.log_records`` (2).

    Args:
        steps: the steps.
        traces: of each.
        head: bytes to begin with.
    """
    if isinstance(steps, PlainSteps):
        alike = len(steps) and traces.count(None) == len(traces)
        if alike and (records := _plain(steps, head)) is not None:
            return records
        steps = steps.block()
    parts = [_stretch(steps, traces, part, form) for part, form in _stretches(steps, traces)]
    return b"".join((head, *parts))


def _stretches(block: StepBlock, traces: Sequence[Trace]) -> Iterator[tuple[slice, Form]]:
    count, terms = block.flags.shape
    if count and (only := _only_form(block, traces)) is not None:
        yield slice(0, count), only
        return
    forms = np.zeros((5 + terms, count), np.int64)
    forms[0] = stand_ins(block.step)
    forms[1] = stand_ins(block.seq)
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
    step, seq = _only_stand_in(block.step), _only_stand_in(block.seq)
    if step is None or seq is None:
        return None
    return bare_form(step, seq, bool(with_base), terms)


def _only_stand_in(numbers: NDArray[np.int64] | range) -> int | None:
    """That of all numbers, at least one; None where they have different ones."""
    # So few, most often, that Python is quicker.
    each = numbers if isinstance(numbers, range) else sorted(numbers.tolist())
    least = stand_in(each[0])
    return least if least == stand_in(each[-1]) else None


def _plain(steps: PlainSteps, head: bytes) -> bytes | None:
    """The records of steps without a span; None where their numbers differ in size."""
    step, seq = _only_stand_in(steps.step), _only_stand_in(steps.seq)
    if step is None or seq is None:
        return None
    one = plain_press(steps.pipeline, steps.incarnation, steps.weights, steps.has_base, step, seq)
    return _pressed(one, head, steps.cells, steps.step, steps.seq)


def _pressed(
    one: Press,
    head: bytes,
    cells: NDArray[np.float64],
    step: NDArray[np.int64] | range,
    seq: NDArray[np.int64] | range,
) -> bytes:
    """The records of steps, at least one, that differ in their numbers only."""
    # Taken out while it is in use: another thread makes one of its own.
    copies = one.spare.pop() if one.spare else Copies(one, _SPARE_COPIES)
    records = head
    for first in range(0, len(cells), _SPARE_COPIES):
        part = slice(first, first + _SPARE_COPIES)
        records = b"".join((records, copies.fill(cells[part], step[part], seq[part])))
    one.spare.append(copies)
    return records


def _stretch(
    block: StepBlock, traces: Sequence[Trace], part: slice, form: Form
) -> bytes | memoryview:
    one, cells = press(block.pipeline, block.incarnation, form), _cells(block, part)
    step, seq = block.step[part], block.seq[part]
    strange = block.nonfinite[part] if form.flagged or form.has_base else _NOTHING
    nonfinite = np.count_nonzero(strange)
    if not (form.traced or form.flagged or nonfinite):
        return _pressed(one, b"", cells, step, seq)
    rows = Copies(one, part.stop - part.start)
    records = rows.fill(cells, step, seq)
    if form.traced:
        ids = b"".join(trace + span for trace, span in filter(None, traces[part]))
        both = np.frombuffer(ids, np.uint8).reshape(-1, 24)
        rows.write_twice("trace", both[:, :16])
        rows.write_twice("span", both[:, 16:])
    if nonfinite:
        severity = np.where(strange, SEVERITY_ERROR, SEVERITY_INFO).astype(np.uint8)
        rows.bytes_at("severity", 1)[...] = severity[:, None]
    if form.flagged:
        _write_flags(rows, block.flags[part], np.array(form.wide_flags, bool))
    return records


def _write_flags(rows: Copies, flags: NDArray[np.int32], wide: NDArray[np.bool_]) -> None:
    """Puts ``[N, T]`` flags of one or two bytes in place."""
    # tag, length, tag and the first byte; then the second of those that have one
    ends = np.cumsum(4 + wide)
    every = rows.bytes_at(names.TERM_FLAGS, int(ends[-1]))
    first = ends - 1 - wide
    every[:, first] = flags & 0x7F | np.where(wide, 0x80, 0)
    every[:, first[wide] + 1] = flags[:, wide] >> 7


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
