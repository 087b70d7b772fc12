"""Stop records that are laid out alike, read as columns straight from their bytes."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock, TermFlag, complete_flags
from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import MAX_COUNT, InvalidRecordError
from penaltyscope_service.decode._gather import Gather, GatherVarints, Place, Run
from penaltyscope_service.decode._layout import DOUBLE_STRIDE, Layout, Span
from penaltyscope_service.decode._record import Attributes, Value
from penaltyscope_service.decode._step import ScopeTerms, StepKey, read_key

_SCALARS: Final = {
    "duration": wire.DURATION,
    "base": wire.BASE,
    "total": wire.TOTAL,
    "total_gradient_norm": wire.TOTAL_GRADIENT_NORM,
}
_OPTIONAL: Final = (wire.BASE, wire.TOTAL_GRADIENT_NORM)
_ARRAYS: Final = {
    "value": wire.TERM_VALUE,
    "weight": wire.TERM_WEIGHT,
    "contribution": wire.TERM_CONTRIBUTION,
    "gradient_norm": wire.TERM_GRADIENT_NORM,
}
_INTEGERS: Final = (wire.STEP, wire.SEQ)
NAMES: Final = (wire.PIPELINE, wire.INCARNATION)
"""Strings that are other ones in every process, while all else is the same."""
_FLAG_LIMIT: Final = 2 * TermFlag.DISABLED
_FEW: Final = 64
"""Up to so many numbers, a list is searched more quickly than an array."""
_MOST_CACHED_TERMS: Final = 64

Columns = dict[str, NDArray[Any]]


class KeyedSteps(NamedTuple):
    """Evaluations, and what they have in common."""

    key: StepKey
    steps: StepBlock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How the columns of a block are read from stop records of one layout."""

    attributes: dict[str, Value]
    """Of a record that is equal but for its numbers, and the names of pipeline and incarnation."""
    names: tuple[Span, Span]
    """Where those names are."""
    terms: int
    doubles: Gather
    columns: dict[str, int | slice]
    """Where among the doubles each column of the block is."""
    times: slice
    """Where among the doubles the times are, whose bits are those of integers."""
    integers: GatherVarints
    """Step, number and, if they are sent, flags."""
    flagged: bool

    @classmethod
    def of(cls, layout: Layout, attributes: Attributes, *, offset: int) -> Self | None:
        """Nothing if a column is missing that cannot be missing, or is not laid out like one.

        Args:
            layout: of the record.
            attributes: of the same record.
            offset: where it begins within what is repeated.
        """
        flags = layout.integer_arrays.get(wire.TERM_FLAGS, ())
        arrays = [layout.double_arrays.get(name) for name in _ARRAYS.values()]
        sizes = {(a.stop - a.start) // DOUBLE_STRIDE if a else 0 for a in arrays}
        terms = max(sizes)
        if (
            len(sizes) != 1
            or len(flags) != (terms if wire.TERM_FLAGS in attributes else 0)
            or not layout.integers.keys() >= set(_INTEGERS)
            or not layout.texts.keys() >= set(NAMES)
            or not layout.doubles.keys() >= {*_SCALARS.values()} - {*_absent(attributes)}
        ):
            return None
        scalars = {c: layout.doubles[n] for c, n in _SCALARS.items() if n in layout.doubles}
        gather = Gather.of(
            (
                *(Place(offset + start) for start in scalars.values()),
                *(
                    Place(offset + a.start + DOUBLE_STRIDE - 8, terms, DOUBLE_STRIDE)
                    for a in arrays
                    if a is not None
                ),
                *(Place(offset + start) for start in layout.times),
            )
        )
        first = len(scalars) + terms * len(_ARRAYS)
        spans = (*(layout.integers[name] for name in _INTEGERS), *flags)
        pipeline, incarnation = (layout.texts[name] for name in NAMES)
        return cls(
            attributes=dict(attributes),
            names=(pipeline.moved(offset), incarnation.moved(offset)),
            terms=terms,
            doubles=gather,
            columns={
                **{column: i for i, column in enumerate(scalars)},
                **dict(zip(_ARRAYS, gather.columns[len(scalars) :], strict=False)),
            },
            times=slice(first, first + len(layout.times)),
            integers=GatherVarints.of([(offset + a, offset + b) for a, b in spans]),
            flagged=bool(flags),
        )

    def read(self, run: Run, terms: ScopeTerms, received_ns: int) -> KeyedSteps | None:
        """All records of a run; nothing where one of them may have to be refused."""
        read = _read_key if self.terms <= _MOST_CACHED_TERMS else _read_key.__wrapped__
        try:
            key = read(
                self, terms, *(run.data[run.start + a : run.start + b] for a, b in self.names)
            )
        except InvalidRecordError:
            return None
        doubles, integers = self.doubles(run), self.integers(run)
        stop_ns = _times(doubles[:, self.times].view(np.int64), received_ns)
        numbers = doubles[:, : self.times.start]
        finite = 0 not in np.isfinite(numbers).tobytes()
        if len(key.terms) != self.terms or not _valid(stop_ns, integers, numbers, finite=finite):
            return None
        columns = {name: numbers[:, place] for name, place in self.columns.items()}
        if self.flagged:
            flags = integers[:, 2:].astype(np.int32)
        else:
            flags = np.zeros((run.repeats, self.terms), np.int32)
        if self.flagged or not finite:
            flags = complete_flags(flags, columns["value"], columns["gradient_norm"])
        for name in ("base", "total_gradient_norm"):
            if name not in columns:
                columns[name] = np.full(run.repeats, np.nan)
        has_base = np.empty(run.repeats, np.bool_)
        has_base.fill(wire.BASE in self.attributes)  # three times as quick as a `full`
        steps = StepBlock(
            pipeline=key.pipeline,
            incarnation=key.incarnation,
            terms=key.terms,
            step=integers[:, 0],
            seq=integers[:, 1],
            stop_ns=stop_ns,
            has_base=has_base,
            flags=flags,
            **columns,
        )
        return KeyedSteps(key, steps)


@lru_cache(maxsize=1024)
def _read_key(plan: Plan, terms: ScopeTerms, pipeline: bytes, incarnation: bytes) -> StepKey:
    """Raises InvalidRecordError."""
    own = dict(zip(NAMES, (pipeline.decode(), incarnation.decode()), strict=True))
    return read_key(plan.attributes | own, terms)


def _absent(attributes: Attributes) -> list[str]:
    """What is missing and may be."""
    return [name for name in _OPTIONAL if name not in attributes]


def _valid(
    stop_ns: NDArray[np.int64],
    integers: NDArray[np.int64],
    numbers: NDArray[np.float64],
    *,
    finite: bool,
) -> bool:
    """Whether no record has a number that has to be refused."""
    duration = numbers[:, 0]
    return bool(
        _least(stop_ns) >= 0  # else it was beyond the largest signed integer
        and max(_most(integers[:, 0]), _most(integers[:, 1])) <= MAX_COUNT
        and (integers.shape[1] == 2 or integers[:, 2:].max() < _FLAG_LIMIT)
        and (finite or np.isfinite(duration).all())
        and _least(duration) >= 0
    )


def _least(column: NDArray[Any]) -> float:
    """Of numbers, none of them NaN."""
    least: float = min(column.tolist()) if len(column) <= _FEW else column.min().item()
    return least


def _most(column: NDArray[Any]) -> float:
    most: float = max(column.tolist()) if len(column) <= _FEW else column.max().item()
    return most


def _times(times: NDArray[np.int64], received_ns: int) -> NDArray[np.int64]:
    """``[N]``: the first that is not zero of each record's times, else when it was received."""
    if times.shape[1] and np.count_nonzero(times[:, 0]) == len(times):
        return times[:, 0]
    found = np.zeros(len(times), np.int64)
    for column in times.T:
        found = np.where(found, found, column)
    return np.where(found, found, received_ns)
