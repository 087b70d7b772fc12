"""Stop records in, columns of steps out."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from penaltyscope_events import ALL_FLAGS, StepBlock, TermFlag, complete_flags
from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import (
    InvalidRecordError,
    integer,
    integers,
    name,
    names,
    number,
    numbers,
)
from penaltyscope_service.decode._record import Attributes, Record
from penaltyscope_service.joining import join

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAN: Final = float("nan")
MAX_TIME_NS: Final = 2**63 - 1
_DTYPES: Final[dict[str, type[np.generic]]] = {
    "step": np.int64,
    "seq": np.int64,
    "stop_ns": np.int64,
    "has_base": np.bool_,
    "flags": np.int32,
}
"""Of the columns that are not float64."""


class ScopeTerms:
    """The term names that a scope states for all of its records, checked once."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names; raises InvalidRecordError if the scope has none or they are not usable."""
        return _terms(self._attributes)


class StepKey(NamedTuple):
    """What all steps of a block have in common."""

    pipeline: str
    incarnation: str
    terms: tuple[str, ...]


class StepRow(NamedTuple):
    """One evaluation, its fields as in :class:`~penaltyscope_events.StepBlock`."""

    step: int
    seq: int
    stop_ns: int
    duration: float
    base: float
    has_base: bool
    total: float
    total_gradient_norm: float
    value: list[float]
    weight: list[float]
    contribution: list[float]
    gradient_norm: list[float]
    flags: list[int]


def read_step(record: Record, scope: ScopeTerms, received_ns: int) -> tuple[StepKey, StepRow]:
    """One stop record, checked.

    Raises:
        InvalidRecordError: if an attribute is missing, has the wrong type, length or value.
    """
    attributes = record.attributes
    key = read_key(attributes, scope)
    terms = key.terms
    value = numbers(attributes, wire.TERM_VALUE, len(terms))
    weight = numbers(attributes, wire.TERM_WEIGHT, len(terms))
    norms, flags = _norms_and_flags(attributes, len(terms))
    row = StepRow(
        step=integer(attributes, wire.STEP),
        seq=integer(attributes, wire.SEQ),
        stop_ns=read_time(record, received_ns),
        duration=_duration(attributes),
        base=number(attributes, wire.BASE) if wire.BASE in attributes else _NAN,
        has_base=wire.BASE in attributes,
        total=number(attributes, wire.TOTAL),
        total_gradient_norm=_total_gradient_norm(attributes),
        value=value,
        weight=weight,
        contribution=_contribution(attributes, value, weight, flags),
        gradient_norm=norms,
        flags=flags,
    )
    return key, row


def read_key(attributes: Attributes, scope: ScopeTerms) -> StepKey:
    """What a stop record says about its block.

    Raises:
        InvalidRecordError: if an attribute is missing, has the wrong type, length or value.
    """
    terms = _terms(attributes) if wire.TERM_NAMES in attributes else scope.names
    return StepKey(name(attributes, wire.PIPELINE), name(attributes, wire.INCARNATION), terms)


def read_time(record: Record, received_ns: int) -> int:
    """The record's own time, else the time at which it was received.

    Raises:
        InvalidRecordError: if it does not fit a signed integer (it would be after the year 2262).
    """
    if record.time_ns > MAX_TIME_NS:
        raise InvalidRecordError(
            "invalid_value",
            f"time_unix_nano must be at most {MAX_TIME_NS}, got {record.time_ns}.",
        )
    return record.time_ns or received_ns


def build_block(key: StepKey, parts: Sequence[StepBlock | Sequence[StepRow]]) -> StepBlock:
    """Evaluations, some perhaps in columns already, as one block in the same order."""
    return join([p if isinstance(p, StepBlock) else _from_rows(key, p) for p in parts])


def _from_rows(key: StepKey, rows: Sequence[StepRow]) -> StepBlock:
    """The rows as columns, with the flags that follow from their numbers."""
    columns: dict[str, NDArray[Any]] = {
        column: np.array(values, _DTYPES.get(column, np.float64))
        for column, values in zip(StepRow._fields, zip(*rows, strict=True), strict=True)
    }
    columns["flags"] = complete_flags(columns["flags"], columns["value"], columns["gradient_norm"])
    return StepBlock(pipeline=key.pipeline, incarnation=key.incarnation, terms=key.terms, **columns)


def _terms(attributes: Attributes) -> tuple[str, ...]:
    return names(attributes, wire.TERM_NAMES, reserved=wire.BASE_TERM)


def _norms_and_flags(attributes: Attributes, terms: int) -> tuple[list[float], list[int]]:
    flags = [0] * terms
    if wire.TERM_FLAGS in attributes:
        flags = integers(attributes, wire.TERM_FLAGS, terms)
        if not all(0 <= bits <= ALL_FLAGS for bits in flags):
            raise InvalidRecordError(
                "invalid_value",
                f"{wire.TERM_FLAGS} must be from 0 to {int(ALL_FLAGS)}, got {flags}.",
            )
    if wire.TERM_GRADIENT_NORM in attributes:
        return numbers(attributes, wire.TERM_GRADIENT_NORM, terms), flags
    return [_NAN] * terms, [bits | TermFlag.NORM_NOT_MEASURED for bits in flags]


def _contribution(
    attributes: Attributes, value: list[float], weight: list[float], flags: list[int]
) -> list[float]:
    if wire.TERM_CONTRIBUTION in attributes:
        return numbers(attributes, wire.TERM_CONTRIBUTION, len(value))
    return [
        0.0 if bits & TermFlag.DISABLED else v * w
        for v, w, bits in zip(value, weight, flags, strict=True)
    ]


def _duration(attributes: Attributes) -> float:
    duration = number(attributes, wire.DURATION)
    if not 0 <= duration < float("inf"):
        raise InvalidRecordError(
            "invalid_value", f"{wire.DURATION} must be finite and at least 0, got {duration}."
        )
    return duration


def _total_gradient_norm(attributes: Attributes) -> float:
    """NaN, the sign for a norm that was not measured, where the client sends none."""
    if wire.TOTAL_GRADIENT_NORM not in attributes:
        return _NAN
    return number(attributes, wire.TOTAL_GRADIENT_NORM)
