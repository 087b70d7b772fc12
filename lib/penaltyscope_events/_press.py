"""How cells side by side become numbers in the bytes of records, all in one assignment.

A cell is eight bytes: a float64, or a time as int64. NumPy copies records of cells to records of
bytes field by field, each by the offsets that its dtype knows, and leaves what is between as it is.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_events._template import DOUBLE_STRIDE, Form, Template, template

_CELL = 8
_SCALARS = names.DURATION, names.BASE, names.TOTAL, names.TOTAL_GRADIENT_NORM
_ARRAYS = names.TERM_VALUE, names.TERM_CONTRIBUTION, names.TERM_GRADIENT_NORM
_TIME_STRIDE = 9
"""Bytes from the time of a record to the time it was observed: the one, and the other's tag."""
_HEAD = DOUBLE_STRIDE - _CELL
_ELEMENT = np.dtype(
    {"names": ["double"], "formats": ["<f8"], "offsets": [_HEAD], "itemsize": DOUBLE_STRIDE}
)
"""Of an ArrayValue: what is around a double is counted before it, since the last ends a record."""

_FieldPlaces = tuple[int, int, Any, Any]
"""The offsets in source and target, in bytes, and what NumPy takes for their dtypes."""


class Way(NamedTuple):
    """Two dtypes with the same fields: an array of one is assigned to an array of the other."""

    source: np.dtype[np.void]
    """Of numbers side by side."""
    target: np.dtype[np.void]
    """Of the bytes of one step."""


class Press(NamedTuple):
    """The bytes of one step, and where its numbers go."""

    data: bytes
    slots: dict[str, int]
    """Where all that differs between steps stands in them."""
    cells: Way
    """Of start, stop, four scalars, and three or four arrays of numbers by term."""
    digits: Way
    """Of ``[2, D]`` uint64, of step and evaluation the bytes of a varint, one in each."""
    shifts: NDArray[np.uint64]
    """``[D]``, by how much a number is shifted for each of them."""
    more: NDArray[np.uint64]
    """``[2, D]``, the bit that tells that another follows."""


@lru_cache(maxsize=64)
def press(
    pipeline: str, incarnation: str, form: Form, weights: tuple[float, ...] | None = None
) -> Press:
    """That of steps of one form; without weights of its own it takes them as further cells."""
    one = template(pipeline, incarnation, len(form.wide_flags), form)
    data = bytearray(one.data)
    for i, weight in enumerate(weights or ()):
        place = one.slots[names.TERM_WEIGHT] + i * DOUBLE_STRIDE
        struct.pack_into("<d", data, place, weight)
    lengths = form.step_digits, form.seq_digits
    most = max(lengths)
    more = [[0x80 if place < last - 1 else 0 for place in range(most)] for last in lengths]
    arrays = _ARRAYS if weights is not None else (*_ARRAYS, names.TERM_WEIGHT)
    return Press(
        data=bytes(data),
        slots=one.slots,
        cells=_cells(one, arrays, len(form.wide_flags)),
        digits=_digits(one, dict(zip(("step", "seq"), lengths, strict=True))),
        shifts=7 * np.arange(most, dtype=np.uint64),
        more=np.array(more, np.uint64),
    )


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


def _cells(one: Template, arrays: Sequence[str], terms: int) -> Way:
    fields: list[_FieldPlaces] = [
        (column * _CELL, one.slots[f"{record} times"] + again, "f8", "<f8")
        for column, record in enumerate(("start", "stop"))
        for again in (0, _TIME_STRIDE)
    ]
    fields += [
        (column * _CELL, one.slots[name], "f8", "<f8")
        for column, name in enumerate(_SCALARS, start=2)
        if name in one.slots
    ]
    fields += [
        ((6 + i * terms) * _CELL, one.slots[name] - _HEAD, ("f8", (terms,)), (_ELEMENT, (terms,)))
        for i, name in enumerate(arrays)
        if terms
    ]
    return _way(fields, (6 + len(arrays) * terms) * _CELL, len(one.data))


def _digits(one: Template, lengths: Mapping[str, int]) -> Way:
    most = max(lengths.values())
    fields: list[_FieldPlaces] = [
        ((i * most + place) * _CELL, one.slots[f"{record} {what}"] + place, "u8", "u1")
        for i, (what, length) in enumerate(lengths.items())
        for record in ("start", "stop")
        for place in range(length)
    ]
    return _way(fields, len(lengths) * most * _CELL, len(one.data))


def _way(fields: Sequence[_FieldPlaces], *widths: int) -> Way:
    sources, targets, *kinds = zip(*fields, strict=True)
    return Way(
        *(
            np.dtype(
                {
                    "names": [f"field {i}" for i in range(len(fields))],
                    "formats": formats,
                    "offsets": offsets,
                    "itemsize": width,
                }
            )
            for formats, offsets, width in zip(kinds, (sources, targets), widths, strict=True)
        )
    )
