"""A block as one matrix of integers, some rows for each of its columns, and back."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.history._prediction import (
    contributions,
    exchange,
    put_columns,
    totals,
)
from penaltyscope_service.kernel import by_term

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


def to_matrix(block: StepBlock) -> tuple[Integers, Forms]:
    """``[R, N]`` of ``N`` evaluations, and what else :func:`from_matrix` has to know.

    Raises:
        ValueError: if the columns are not as long as each other.
    """
    terms = len(block.terms)
    rows = np.empty((row_count(terms), len(block)), np.int64)
    forms = np.empty(terms + 2, np.uint8)
    if block.value.shape != (len(block), terms) or not put_columns(
        block.step,
        block.seq,
        block.stop_ns,
        block.has_base,
        block.duration,
        block.base,
        block.total_gradient_norm,
        by_term(block.value),
        by_term(block.weight),
        by_term(block.contribution),
        block.total,
        by_term(block.gradient_norm),
        by_term(block.flags),
        rows,
        forms,
    ):
        shapes = {name: getattr(block, name).shape for name in _COLUMNS}
        raise ValueError(f"columns must be as long as each other, got {shapes}.")
    return rows, forms


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
    return {name: found[name].T if name in _BY_TERM else found[name][0] for name in names}


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
