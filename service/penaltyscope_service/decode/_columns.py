"""Stop records that are laid out alike, read as columns straight from their bytes."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Self

import numpy as np

from penaltyscope_events import StepBlock
from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import InvalidRecordError
from penaltyscope_service.decode._gather import Places, gather
from penaltyscope_service.decode._layout import DOUBLE_STRIDE, NOWHERE, Layout, Span
from penaltyscope_service.decode._record import Attributes, Value
from penaltyscope_service.decode._step import ScopeTerms, StepKey, read_key

_INTEGERS: Final = (wire.STEP, wire.SEQ)
_SCALARS: Final = (wire.DURATION, wire.BASE, wire.TOTAL, wire.TOTAL_GRADIENT_NORM)
_OPTIONAL: Final = frozenset({wire.BASE, wire.TOTAL_GRADIENT_NORM})
_ARRAYS: Final = (
    wire.TERM_VALUE,
    wire.TERM_WEIGHT,
    wire.TERM_CONTRIBUTION,
    wire.TERM_GRADIENT_NORM,
)
NAMES: Final = (wire.PIPELINE, wire.INCARNATION)
"""Strings that are other ones in every process, while all else is the same."""
_MOST_CACHED_TERMS: Final = 64


class Run(NamedTuple):
    """Where records are: ``repeats`` of them, one every ``stride`` bytes."""

    data: bytes
    start: int
    stride: int
    repeats: int


class KeyedSteps(NamedTuple):
    """Evaluations, and what they have in common."""

    key: StepKey
    steps: StepBlock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How the columns of a block are read from stop records of one layout."""

    attributes: dict[str, Value]
    """Of a record that is equal but for its numbers, and the names of pipeline and incarnation."""
    offset: int
    """Where a record begins within what is repeated."""
    names: tuple[Span, Span]
    """Where those names are in a record."""
    terms: int
    places: Places

    @classmethod
    def of(cls, layout: Layout, attributes: Attributes, *, offset: int) -> Self | None:
        """Nothing if a column is missing that cannot be missing, or is not laid out like one.

        Args:
            layout: of the record.
            attributes: of the same record.
            offset: where it begins within what is repeated.
        """
        arrays = [layout.double_arrays.get(name, NOWHERE) for name in _ARRAYS]
        flags = layout.integer_arrays.get(wire.TERM_FLAGS, ())
        terms = len(range(*arrays[0], DOUBLE_STRIDE))
        if (
            any(len(range(*array, DOUBLE_STRIDE)) != terms for array in arrays)
            or len(flags) != (terms if wire.TERM_FLAGS in attributes else 0)
            or not layout.integers.keys() >= {*_INTEGERS}
            or not layout.texts.keys() >= {*NAMES}
            or not layout.doubles.keys() >= {*_SCALARS} - (_OPTIONAL - attributes.keys())
        ):
            return None
        places = (
            *(*layout.times, NOWHERE, NOWHERE)[:2],
            *(layout.integers[name] for name in _INTEGERS),
            *(layout.doubles.get(name, NOWHERE) for name in _SCALARS),
            *arrays,
            *flags,
        )
        pipeline, incarnation = (layout.texts[name] for name in NAMES)
        return cls(
            attributes=dict(attributes),
            offset=offset,
            names=(pipeline, incarnation),
            terms=terms,
            places=np.array(places, np.int64),
        )

    def read(self, run: Run, terms: ScopeTerms, received_ns: int) -> KeyedSteps | None:
        """All records of a run; nothing where one of them may have to be refused."""
        data, start = run.data, run.start + self.offset
        read = _read_key if self.terms <= _MOST_CACHED_TERMS else _read_key.__wrapped__
        try:
            key = read(self, terms, *(data[start + a : start + b] for a, b in self.names))
        except InvalidRecordError:
            return None
        if len(key.terms) != self.terms:
            return None
        rows = run.repeats
        integers, scalars = np.empty((3, rows), np.int64), np.empty((4, rows))
        arrays, flags = np.empty((4, rows, self.terms)), np.empty((rows, self.terms), np.int32)
        has_base = np.empty(rows, np.bool_)
        # A record lies within what is repeated, and its numbers lie within the record.
        good = gather(
            *(np.frombuffer(data, np.uint8), start, run.stride, self.places, received_ns),
            *(integers, scalars, has_base, arrays, flags),
        )
        if not good:
            return None
        step, seq, stop_ns = integers
        duration, base, total, total_gradient_norm = scalars
        value, weight, contribution, gradient_norm = arrays
        steps = StepBlock(
            pipeline=key.pipeline,
            incarnation=key.incarnation,
            terms=key.terms,
            step=step,
            seq=seq,
            stop_ns=stop_ns,
            duration=duration,
            base=base,
            has_base=has_base,
            total=total,
            total_gradient_norm=total_gradient_norm,
            value=value,
            weight=weight,
            contribution=contribution,
            gradient_norm=gradient_norm,
            flags=flags,
        )
        return KeyedSteps(key, steps)


@lru_cache(maxsize=1024)
def _read_key(plan: Plan, terms: ScopeTerms, pipeline: bytes, incarnation: bytes) -> StepKey:
    """Raises InvalidRecordError."""
    own = dict(zip(NAMES, (pipeline.decode(), incarnation.decode()), strict=True))
    return read_key(plan.attributes | own, terms)
