"""A block as one matrix of integers, some rows for each of its columns, and back."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.history._number import exchange
from penaltyscope_service.history._prediction import (
    are_short,
    contributions,
    totals,
)
from penaltyscope_service.kernel import kernel

Column = NDArray[Any]
Integers = NDArray[np.int64]
Forms = NDArray[np.uint8]
"""``[T + 2]``: 1 where the contributions of a term, then where the totals have 24 digits at most;
last, whether durations are whole nanoseconds."""

_COLUMNS: Final = (
    *("step", "seq", "stop_ns", "has_base", "duration", "base", "total_gradient_norm"),
    *("value", "weight", "contribution", "total", "gradient_norm", "flags"),
)
"""In the order of their rows; what is predicted comes after what it follows from."""
_BY_TERM: Final = ("value", "weight", "contribution", "gradient_norm", "flags")
_KINDS: Final = {
    **dict.fromkeys(("step", "seq", "stop_ns"), np.int64),
    **{"has_base": np.bool_, "flags": np.int32},
}
"""The columns of integers."""
_NEEDED: Final = {"contribution": {"value", "weight"}, "total": {"value", "weight", "contribution"}}
"""What a column follows from."""
_LARGEST_EXACT: Final = 2.0**53


def to_matrix(block: StepBlock) -> tuple[Integers, Forms]:
    """``[R, N]`` of ``N`` evaluations, and what else :func:`from_matrix` has to know."""
    places = _places(len(block.terms))
    rows = np.empty((row_count(len(block.terms)), len(block)), np.int64)
    numbers = rows.view(np.float64)
    for name, place in places.items():
        (rows if name in _KINDS else numbers)[place] = getattr(block, name).T
    follow = slice(places["contribution"].start, places["total"].stop)
    short = are_short(rows[follow])
    predicted = np.concatenate(
        (
            contributions(numbers[places["weight"]], numbers[places["value"]], short[:-1]),
            totals(numbers[places["contribution"]], short[-1:]),
        )
    )
    doubles = rows[places["duration"].start : places["flags"].start]
    exchange(doubles, out=doubles)
    rows[follow] -= exchange(predicted.view(np.int64))
    nanoseconds = np.empty(len(block), np.int64)
    whole = _count_nanoseconds(block.duration, nanoseconds)
    if whole:
        rows[places["duration"]] = nanoseconds
    return rows, np.array([*short, whole], np.uint8)


def from_matrix(
    rows: Integers, forms: Forms, names: Collection[str], terms: int
) -> dict[str, Column]:
    """Some columns of the block.

    Args:
        rows: those that :func:`needed_rows` tells.
        forms: from :func:`to_matrix`.
        names: of the columns.
        terms: how many there are.
    """
    found: dict[str, Column] = {}
    start = 0
    for name in _needed(names):
        stop = start + (terms if name in _BY_TERM else 1)
        found[name] = _column(name, rows[start:stop], forms, found)
        start = stop
    return {
        name: np.ascontiguousarray(found[name].T) if name in _BY_TERM else found[name][0]
        for name in names
    }


def needed_rows(names: Collection[str], terms: int) -> NDArray[np.bool_]:
    """``[R]``: the rows that some columns are made of."""
    places = _places(terms)
    needed = np.zeros(row_count(terms), np.bool_)
    for name in _needed(names):
        needed[places[name]] = True
    return needed


def row_count(terms: int) -> int:
    """``R``."""
    count: int = _places(terms)["flags"].stop
    return count


def _column(name: str, rows: Integers, forms: Forms, found: Mapping[str, Column]) -> Column:
    if name in _KINDS:
        return rows.astype(_KINDS[name])
    if name == "duration" and forms[-1]:
        return rows / 1e9
    if name == "contribution":
        follow = contributions(found["weight"], found["value"], forms[:-2] != 0)
        rows = rows + exchange(follow.view(np.int64))
    elif name == "total":
        rows = rows + exchange(totals(found["contribution"], forms[-2:-1] != 0).view(np.int64))
    return exchange(rows).view(np.float64)


@lru_cache
def _places(terms: int) -> Mapping[str, slice]:
    places: dict[str, slice] = {}
    start = 0
    for name in _COLUMNS:
        stop = start + (terms if name in _BY_TERM else 1)
        places[name] = slice(start, stop)
        start = stop
    return places


def _needed(names: Collection[str]) -> list[str]:
    wanted = {*names}.union(*(_NEEDED.get(name, ()) for name in names))
    return [name for name in _COLUMNS if name in wanted]


@kernel(
    types.boolean(
        types.Array(types.float64, 1, "A", readonly=True), types.Array(types.int64, 1, "C")
    )
)
def _count_nanoseconds(seconds: NDArray[np.float64], whole: Integers) -> bool:
    """Durations as clocks tell them; whether that loses no bit."""
    for i in range(len(seconds)):
        scaled = np.rint(seconds[i] * 1e9)
        if not abs(scaled) < _LARGEST_EXACT:
            return False
        whole[i] = np.int64(scaled)
        if np.float64(whole[i] / 1e9).view(np.int64) != np.float64(seconds[i]).view(np.int64):
            return False
    return True
