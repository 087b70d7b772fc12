"""Where the numbers of stop records are that are laid out alike."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from penaltyscope_events import names as wire
from penaltyscope_service.decode._gather import Places
from penaltyscope_service.decode._layout import DOUBLE_STRIDE, NOWHERE, Layout
from penaltyscope_service.decode._record import Attributes, Value

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How the columns of a block are read from stop records of one layout."""

    attributes: dict[str, Value]
    """Of a record that is equal but for its numbers, and the names of pipeline and incarnation."""
    terms: int
    offset: int
    """Where a record begins within what is repeated."""
    places: Places
    """Of its numbers, all within the record."""

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
        return cls(
            attributes=dict(attributes),
            terms=terms,
            offset=offset,
            places=np.array(places, np.int64),
        )
