"""Lines of text, put together from strings and numbers in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, Self

import numpy as np
import orjson
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numba.extending import intrinsic
from numpy.typing import NDArray

from penaltyscope_service.kernel import BYTES, kernel, part

_ROWS: Final = 1024
"""Owners whose lines are written at once: meanwhile no other thread runs."""
_LONGEST_NUMBER: Final = 24
"""Bytes of it: -2.2250738585072014e-308."""
_NONFINITE: Final = np.frombuffer(b"+Inf-InfNaN", np.uint8)

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Strings:
    """Strings, one after the other."""

    text: NDArray[np.uint8]
    edges: NDArray[np.int64]
    """``[N + 1]``: where each begins, and the last one ends."""

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Self:
        """As many as there are."""
        edges = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)), out=edges[1:])
        return cls(np.frombuffer(b"".join(strings), np.uint8), edges)

    def __len__(self) -> int:
        return len(self.edges) - 1


@dataclass(frozen=True, slots=True)
class Columns:
    """The lines of an owner: what stands before its labels and after them, for each of L lines."""

    before: Strings
    after: Strings
    fractional: Mask
    """``[L]``: whether the number is one of ``sums``, and not of ``counts``."""


def write_lines(
    page: BytesIO, owners: Strings, columns: Columns, rows: Integers, counts: Integers, sums: Floats
) -> None:
    """Writes the text of all lines.

    Args:
        page: takes it.
        owners: labels.
        columns: the lines of each owner.
        rows: ``[R]``: which owners have lines.
        counts: ``[R, …]``, numbers of theirs.
        sums: ``[R, …]``, others.
    """
    before, after = columns.before, columns.after
    lines = len(columns.fractional)
    # A kernel checks no index: rows are those of owners, there is a number for every line, and room
    # for all strings and the longest numbers.
    owned = int(np.diff(owners.edges).max(initial=0))
    others = len(before.text) + len(after.text) + lines * _LONGEST_NUMBER
    text = np.empty(min(len(rows), _ROWS) * (lines * owned + others), np.uint8)
    for start in range(0, len(rows), _ROWS):
        chosen = slice(start, start + _ROWS)
        numbers = np.ascontiguousarray(sums[chosen]).reshape(-1)
        length = _write(
            rows[chosen],
            *(owners.text, owners.edges, before.text, before.edges, after.text, after.edges),
            columns.fractional,
            np.ascontiguousarray(counts[chosen]).reshape(-1),
            numbers,
            np.frombuffer(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8),
            text,
        )
        page.write(text[:length].data)


_INTEGERS: Final = types.Array(types.int64, 1, "C", readonly=True)
_FLOATS: Final = types.Array(types.float64, 1, "C", readonly=True)
_MASK: Final = types.Array(types.boolean, 1, "C", readonly=True)
_TEXT: Final = types.Array(types.uint8, 1, "C")


def _type_move(_: object, target: types.Array, source: types.Array) -> tuple[Signature, object]:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ANN401
        to, of = (
            cgutils.create_struct_proxy(array)(context, builder, value)
            for array, value in zip(signature.args, values, strict=True)
        )
        cgutils.raw_memcpy(builder, to.data, of.data, of.nitems, 1)
        return context.get_dummy_value()

    return types.void(target, source), generate


_move: Final[Any] = intrinsic(_type_move)
"""Copies all of ``source`` to where ``target`` begins.

A loop takes thrice as long, as it might be told to copy what it has just written.
"""


@part(types.int64(BYTES, types.int64, types.int64, _TEXT, types.int64))
def _copy(source: Integers, start: int, stop: int, text: Integers, at: int) -> int:
    _move(text[at:], source[start:stop])
    return at + stop - start


@part(types.int64(types.int64, _TEXT, types.int64))
def _write_integer(number: int, text: Integers, at: int) -> int:
    # The lowest one has no opposite of its own type.
    left = np.uint64(number)
    if number < 0:
        text[at] = ord("-")
        at, left = at + 1, ~left + np.uint64(1)
    ten = np.uint64(10)
    stop, power = at + 1, left // ten
    while power:
        stop, power = stop + 1, power // ten
    for place in range(stop - 1, at - 1, -1):
        text[place], left = np.uint8(ord("0") + np.int64(left % ten)), left // ten
    return stop


@part(types.int64(types.float64, _TEXT, types.int64))
def _write_nonfinite(number: float, text: Integers, at: int) -> int:
    if np.isnan(number):
        return _copy(_NONFINITE, 8, 11, text, at)
    return _copy(_NONFINITE, 0, 4, text, at) if number > 0 else _copy(_NONFINITE, 4, 8, text, at)


@kernel(
    types.int64(
        *(_INTEGERS, BYTES, _INTEGERS, BYTES, _INTEGERS, BYTES, _INTEGERS),
        *(_MASK, _INTEGERS, _FLOATS, BYTES, _TEXT),
    )
)
def _write(
    rows: Integers,
    owners: Integers,
    owner_edges: Integers,
    before: Integers,
    before_edges: Integers,
    after: Integers,
    after_edges: Integers,
    fractional: Mask,
    counts: Integers,
    sums: Floats,
    written: Integers,
    text: Integers,
) -> int:
    """Writes lines to ``text``; returns how many bytes they are.

    Args:
        rows: which owners have lines.
        owners: all strings, as are ``before`` and ``after``.
        owner_edges: theirs, as are ``before_edges`` and ``after_edges``.
        before: what stands before the owner in each of its lines.
        before_edges: theirs.
        after: what stands after the owner.
        after_edges: theirs.
        fractional: for each of an owner's lines, whether its number is one of ``sums``.
        counts: numbers, in the order of lines.
        sums: others, in the order of lines.
        written: the same as text, a list in JSON, which has no word for what is not finite.
        text: takes the lines.
    """
    at = count = total = 0
    digits = 1
    for row in rows:
        for line in range(len(fractional)):
            at = _copy(before, before_edges[line], before_edges[line + 1], text, at)
            at = _copy(owners, owner_edges[row], owner_edges[row + 1], text, at)
            at = _copy(after, after_edges[line], after_edges[line + 1], text, at)
            if not fractional[line]:
                at = _write_integer(counts[count], text, at)
                count += 1
                continue
            stop = digits
            while written[stop] != ord(",") and written[stop] != ord("]"):
                stop += 1
            if written[digits] == ord("n"):
                at = _write_nonfinite(sums[total], text, at)
            else:
                at = _copy(written, digits, stop, text, at)
            digits, total = stop + 1, total + 1
    return at
