"""How cells side by side become numbers in the bytes of records, all in one assignment.

A cell is eight bytes: a float64, or a time as int64. NumPy copies records of cells to records of
bytes field by field, each by the offsets that its dtype knows, and leaves what is between as it is.
"""

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from penaltyscope_events import names
from penaltyscope_events._template import DOUBLE_STRIDE, Form, template

_CELL = 8
_SCALARS = names.DURATION, names.BASE, names.TOTAL, names.TOTAL_GRADIENT_NORM
_ARRAYS = names.TERM_VALUE, names.TERM_CONTRIBUTION, names.TERM_GRADIENT_NORM
_TIME_STRIDE = 9
"""Bytes from the time of a record to the time it was observed: the one, and the other's tag."""
_ELEMENT_HEAD = DOUBLE_STRIDE - _CELL
"""Bytes before the double of an element."""


class Press(NamedTuple):
    """The bytes of one step, and where its cells go."""

    data: bytes
    slots: dict[str, int]
    """Where what is not a cell stands in them."""
    cells: np.dtype[np.void]
    """One step's: start, stop, four scalars, three or four arrays of numbers by term."""
    records: np.dtype[np.void]
    """Of the bytes, with the same fields in the same order."""


@lru_cache(maxsize=64)
def press(
    pipeline: str, incarnation: str, form: Form, weights: tuple[float, ...] | None = None
) -> Press:
    """That of steps of one form; without weights of its own it takes them behind the other cells."""
    terms = len(form.wide_flags)
    one = template(pipeline, incarnation, terms, form)
    data, fields = bytearray(one.data), _Fields()
    for column, record in enumerate(("start", "stop")):
        place = one.slots[f"{record} times"]
        fields.add(column, place)
        fields.add(column, place + _TIME_STRIDE)
    for column, name in enumerate(_SCALARS, start=2):
        if name in one.slots:
            fields.add(column, one.slots[name])
    arrays = _ARRAYS if weights is not None else (*_ARRAYS, names.TERM_WEIGHT)
    for i, name in enumerate(arrays if terms else ()):
        fields.add_array(6 + i * terms, one.slots[name], terms)
    for i, weight in enumerate(weights or ()):
        place = one.slots[names.TERM_WEIGHT] + i * DOUBLE_STRIDE
        struct.pack_into("<d", data, place, weight)
    width = _CELL * (6 + len(arrays) * terms)
    return Press(bytes(data), one.slots, *fields.dtypes(width, len(data)))


@lru_cache(maxsize=64)
def plain_press(
    pipeline: str,
    incarnation: str,
    weights: tuple[float, ...],
    has_base: bool,
    step_digits: int,
    seq_digits: int,
) -> Press:
    """That of plain steps."""
    form = bare_form(step_digits, seq_digits, has_base, len(weights))
    return press(pipeline, incarnation, form, weights)


def bare_form(step_digits: int, seq_digits: int, has_base: bool, terms: int) -> Form:
    """That of steps without flags and spans."""
    return Form(
        step_digits,
        seq_digits,
        has_base=has_base,
        traced=False,
        flagged=False,
        wide_flags=(False,) * terms,
    )


class _Fields:
    """Fields of two dtypes, one with cells side by side."""

    def __init__(self) -> None:
        self._kinds: list[tuple[Any, Any]] = []
        self._places: list[tuple[int, int]] = []

    def add(self, column: int, place: int) -> None:
        """One cell."""
        self._kinds.append(("<f8", "<f8"))
        self._places.append((column * _CELL, place))

    def add_array(self, column: int, place: int, terms: int) -> None:
        """Cells that become elements of an array."""
        self._kinds.append(((_element(0), (terms,)), (_element(_ELEMENT_HEAD), (terms,))))
        self._places.append((column * _CELL, place - _ELEMENT_HEAD))

    def dtypes(self, *widths: int) -> list[np.dtype[np.void]]:
        """Both, of so many bytes."""
        return [
            np.dtype(
                {
                    "names": [f"field {i}" for i in range(len(kinds))],
                    "formats": kinds,
                    "offsets": places,
                    "itemsize": width,
                }
            )
            for kinds, places, width in zip(
                zip(*self._kinds, strict=True), zip(*self._places, strict=True), widths, strict=True
            )
        ]


def _element(head: int) -> np.dtype[np.void]:
    """A double behind so many other bytes."""
    return np.dtype(
        {"names": ["double"], "formats": ["<f8"], "offsets": [head], "itemsize": head + _CELL}
    )
