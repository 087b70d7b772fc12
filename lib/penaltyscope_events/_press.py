"""How numbers side by side become numbers in the bytes of records, all steps at once.

The bytes of one step are repeated, and strided views of the copies take a column of numbers, or an
array's, in one plain assignment each: what NumPy prepares for one with fields of many kinds takes
longer than these do. A cell is eight bytes: a float64, or a time as int64.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._digits import Digits
from penaltyscope_events._protobuf import varint
from penaltyscope_events._template import DOUBLE_STRIDE, Form, Template, template

_SCALARS = names.DURATION, names.BASE, names.TOTAL, names.TOTAL_GRADIENT_NORM
_ARRAYS = names.TERM_VALUE, names.TERM_CONTRIBUTION, names.TERM_GRADIENT_NORM
_TIME_STRIDE = 9
"""Bytes from the time of a record to the time it was observed: the one, and the other's tag."""


class _Columns(NamedTuple):
    """Some columns of cells, and where they go in the bytes of one step."""

    cells: slice
    offset: int
    repeats: int
    stride: int
    """Bytes from one number to the next; a single column goes to as many places as it repeats."""


@dataclass(frozen=True, slots=True, eq=False)
class Press:
    """The bytes of one step, and where its numbers go."""

    data: bytes
    slots: Mapping[str, int]
    """Where all that differs between steps stands in them."""
    columns: tuple[_Columns, ...]
    """Of start, stop, four scalars, and three or four arrays of numbers by term."""
    step: int
    """As it stands in them."""
    seq: int
    spare: "list[Copies]" = field(default_factory=list)
    """Copies for whoever comes next: to make them costs as much as to fill them."""


@lru_cache(maxsize=64)
def press(pipeline: str, incarnation: str, form: Form) -> Press:
    """That of steps of one form, which takes weights as further cells."""
    terms = len(form.wide_flags)
    one = template(pipeline, incarnation, terms, form)
    return _press(one, form, (*_ARRAYS, names.TERM_WEIGHT), terms)


@lru_cache(maxsize=16)  # each has copies to spare
def plain_press(
    pipeline: str,
    incarnation: str,
    weights: tuple[float, ...],
    has_base: bool,
    step: int,
    seq: int,
) -> Press:
    """That of plain steps, with their weights in it."""
    terms = len(weights)
    form = bare_form(step, seq, has_base, terms)
    one = template(pipeline, incarnation, terms, form)
    data = bytearray(one.data)
    for i, weight in enumerate(weights):
        struct.pack_into("<d", data, one.slots[names.TERM_WEIGHT] + i * DOUBLE_STRIDE, weight)
    return _press(Template(bytes(data), one.slots), form, _ARRAYS, terms)


def bare_form(step: int, seq: int, has_base: bool, terms: int) -> Form:
    """That of steps without flags and spans."""
    return Form(
        step,
        seq,
        has_base=has_base,
        traced=False,
        flagged=False,
        wide_flags=(False,) * terms,
    )


class Copies:
    """Copies of the bytes of one step, with other numbers in each."""

    def __init__(self, press: Press, count: int) -> None:
        self._size = len(press.data)
        self._slots = press.slots
        self._count = count
        self._data = bytearray(press.data) * count
        self._columns = [
            (cells, self._view("<f8", offset, (repeats, stride)))
            for cells, offset, repeats, stride in press.columns
        ]
        self._step, self._seq = (
            Digits(number, self._twice(what, len(varint(number))))
            for what, number in (("step", press.step), ("seq", press.seq))
        )

    def fill(
        self,
        cells: NDArray[np.float64],
        step: NDArray[np.int64] | range,
        seq: NDArray[np.int64] | range,
    ) -> memoryview:
        """Puts the numbers of so many steps in place, and returns their bytes.

        Args:
            cells: as the press takes them.
            step: of each, all of the size that the form tells.
            seq: the same.
        """
        count = len(cells)
        for columns, places in self._columns:
            places[:count] = cells[:, columns]
        self._step.put(step)
        self._seq.put(seq)
        return memoryview(self._data)[: count * self._size]

    def write_twice(self, what: str, column: NDArray[np.uint8]) -> None:
        """Puts ``[N, B]`` bytes in place in both records."""
        self._twice(what, column.shape[1])[...] = column[:, None]

    def bytes_at(self, slot: str, size: int) -> NDArray[np.uint8]:
        """``[N, B]``, so many bytes of each step."""
        return self._view("u1", self._slots[slot], (size, 1))

    def _twice(self, what: str, size: int) -> NDArray[np.uint8]:
        """``[N, 2, B]``, so many bytes of both records."""
        first = self._slots[f"start {what}"]
        return self._view("u1", first, (2, self._slots[f"stop {what}"] - first), (size, 1))

    def _view(
        self, dtype: np.dtype[Any] | str, offset: int, *axes: tuple[int, int]
    ) -> NDArray[Any]:
        """``[N, ...]``, with the lengths and strides of further axes."""
        shape, strides = zip((self._count, self._size), *axes, strict=True)
        return np.ndarray(shape, dtype, self._data, offset, strides)


def _press(one: Template, form: Form, arrays: Sequence[str], terms: int) -> Press:
    return Press(
        data=one.data,
        slots=one.slots,
        columns=(*_scalars(one), *_arrays(one, arrays, terms)),
        step=form.step,
        seq=form.seq,
    )


def _scalars(one: Template) -> Iterator[_Columns]:
    for column, record in enumerate(("start", "stop")):
        yield _Columns(slice(column, column + 1), one.slots[f"{record} times"], 2, _TIME_STRIDE)
    for column, name in enumerate(_SCALARS, start=2):
        if name in one.slots:
            yield _Columns(slice(column, column + 1), one.slots[name], 1, DOUBLE_STRIDE)


def _arrays(one: Template, arrays: Sequence[str], terms: int) -> Iterator[_Columns]:
    for i, name in enumerate(arrays if terms else ()):
        first = 6 + i * terms
        yield _Columns(slice(first, first + terms), one.slots[name], terms, DOUBLE_STRIDE)
