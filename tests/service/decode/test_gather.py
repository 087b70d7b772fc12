"""Compiled reading beside its plain statement: one number after the other."""

import struct
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_events import ALL_FLAGS, COLUMNS, StepBlock, complete_flags
from penaltyscope_service.decode._attribute import MAX_COUNT
from penaltyscope_service.decode._gather import gather
from tests.service.steps import UNHURRIED, blocks, make_steps, same_steps

RECEIVED_NS: Final = 7
NOWHERE: Final = (0, 0)


class Form(NamedTuple):
    """How records are written."""

    times: int = 1
    """How many are sent; all but the last are zero."""
    base: bool = True
    norm: bool = True
    flagged: bool = True
    width: int = 9
    """Of varints."""
    gap: int = 1
    """Bytes between numbers."""
    before: int = 3
    """Bytes before the first record."""


class Draft:
    """One record, and where its numbers are."""

    def __init__(self, form: Form) -> None:
        self._gap = b"\xff" * form.gap
        self._width = form.width
        self.written = self._gap
        self.places: list[tuple[int, int]] = []

    def add(self, content: bytes | None) -> None:
        if content is None:
            self.places.append(NOWHERE)
            return
        start = len(self.written)
        self.places.append((start, start + len(content)))
        self.written += content + self._gap

    def add_varint(self, number: int) -> None:
        more = [number >> 7 * i & 0x7F | 0x80 for i in range(self._width - 1)]
        self.add(bytes((*more, number >> 7 * (self._width - 1) & 0x7F)))

    def add_array(self, numbers: NDArray[np.float64]) -> None:
        self.add(b"".join(b"\x0a\x09\x21" + number.tobytes() for number in numbers))


def write(block: StepBlock, row: int, form: Form) -> Draft:
    """One of its records."""
    made = Draft(form)
    for i in range(2):
        number = int(block.stop_ns[row]) if i == form.times - 1 else 0
        made.add(struct.pack("<Q", number & 2**64 - 1) if i < form.times else None)
    made.add_varint(int(block.step[row]))
    made.add_varint(int(block.seq[row]))
    made.add(block.duration[row].tobytes())
    made.add(block.base[row].tobytes() if form.base else None)
    made.add(block.total[row].tobytes())
    made.add(block.total_gradient_norm[row].tobytes() if form.norm else None)
    for column in (block.value, block.weight, block.contribution, block.gradient_norm):
        made.add_array(column[row])
    for flags in block.flags[row] if form.flagged else ():
        made.add_varint(int(flags))
    return made


def read(block: StepBlock, form: Form) -> StepBlock | None:
    """What becomes of it when it was written."""
    drafts = [write(block, row, form) for row in range(len(block))]
    written = b"\xff" * form.before + b"".join(draft.written for draft in drafts)
    rows, terms = block.flags.shape
    integers, scalars = np.empty((3, rows), np.int64), np.empty((4, rows))
    arrays, flags = np.empty((4, rows, terms)), np.empty((rows, terms), np.int32)
    has_base = np.empty(rows, np.bool_)
    good = gather(
        np.frombuffer(written, np.uint8),
        form.before,
        len(drafts[0].written),
        np.array(drafts[0].places),
        RECEIVED_NS,
        integers,
        scalars,
        has_base,
        arrays,
        flags,
    )
    columns: tuple[Any, ...] = (*integers, *scalars[:2], has_base, *scalars[2:], *arrays, flags)
    made: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
    return replace(block, **made) if good else None


def expected(block: StepBlock, form: Form) -> StepBlock:
    """The same by NumPy."""
    rows, nothing = len(block), np.full(len(block), np.nan)
    stop_ns = block.stop_ns if form.times else np.zeros(rows, np.int64)
    flags = block.flags if form.flagged else np.zeros_like(block.flags)
    return replace(
        block,
        stop_ns=np.where(stop_ns == 0, RECEIVED_NS, stop_ns),
        base=block.base if form.base else nothing,
        has_base=np.full(rows, form.base),
        total_gradient_norm=block.total_gradient_norm if form.norm else nothing,
        flags=complete_flags(flags, block.value, block.gradient_norm),
    )


FORMS = st.builds(
    Form,
    times=st.integers(0, 2),
    base=st.booleans(),
    norm=st.booleans(),
    flagged=st.booleans(),
    width=st.just(9),
    gap=st.integers(0, 4),
    before=st.integers(0, 9),
)


@UNHURRIED
@given(blocks(), FORMS, st.data())
def test_every_number_is_read_to_the_last_bit(
    drawn: StepBlock, form: Form, data: st.DataObject
) -> None:
    shape = drawn.flags.shape
    sent = data.draw(st.lists(st.integers(0, ALL_FLAGS), min_size=shape[1], max_size=shape[1]))
    block = replace(
        drawn,
        step=drawn.step % MAX_COUNT,
        flags=np.broadcast_to(np.array(sent, np.int32), shape).copy(),
    )

    made = read(block, form)

    assert made is not None
    assert same_steps(made, expected(block, form))


@settings(UNHURRIED, max_examples=20)
@given(st.integers(1, 9), st.data())
def test_a_varint_may_have_any_width(width: int, data: st.DataObject) -> None:
    most = min(2 ** (7 * width) - 1, MAX_COUNT)
    seq = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=3))
    block = make_steps(seq, step=most, stop_ns=5)

    made = read(block, Form(flagged=False, width=width))

    assert made is not None
    assert same_steps(made, block)


EDGES: Final = {
    "step": MAX_COUNT,
    "seq": MAX_COUNT,
    "stop_ns": 2**63 - 1,
    "duration": -0.0,
    "flags": int(ALL_FLAGS),
}
BEYOND: Final = {
    "step": (MAX_COUNT + 1, 2**63 - 1),
    "seq": (MAX_COUNT + 1, 2**63 - 1),
    "stop_ns": (-1, -(2**63)),
    "duration": (-5e-324, float("inf"), float("-inf"), float("nan")),
    "flags": (ALL_FLAGS + 1, 2**31 - 1),
}


@pytest.mark.parametrize("column", EDGES)
def test_what_may_just_be_sent_is_read(column: str) -> None:
    block = _with(column, EDGES[column])
    made = read(block, Form())
    assert made is not None
    assert same_steps(made, expected(block, Form()))


@pytest.mark.parametrize(
    ("column", "number"), [(name, number) for name in BEYOND for number in BEYOND[name]]
)
def test_what_has_to_be_refused_is_noticed_in_any_record(column: str, number: float) -> None:
    assert read(_with(column, number), Form()) is None


def _with(column: str, number: float) -> StepBlock:
    """Three good records, the last of which has this number."""
    block = make_steps(range(3))
    numbers = getattr(block, column).copy()
    numbers[-1] = number
    changed: dict[str, Any] = {column: numbers}
    return replace(block, **changed)
