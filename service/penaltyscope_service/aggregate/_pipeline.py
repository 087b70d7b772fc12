"""One pipeline over all of its ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.aggregate._stream import StreamAggregate
from penaltyscope_service.aggregate._term import TermAggregate

Array = NDArray[Any]
Function = Callable[[Array, Array], Array]
Column = Callable[[TermAggregate], Array]
"""Takes a column ``[T, …]`` out of a stream's terms."""


@dataclass(frozen=True, slots=True)
class PipelineAggregate:
    """Sums and maxima over ranks; what cannot be summed is the lowest rank's."""

    streams: Mapping[int, StreamAggregate]
    """By rank, the lowest first; at least one."""
    terms: tuple[str, ...]
    """Of all ranks; those of the lowest rank come first."""
    places: tuple[NDArray[np.int64], ...]
    """For each stream, where its terms are among ``terms``; empty when there is one stream only."""

    @classmethod
    def of(cls, streams: Mapping[int, StreamAggregate]) -> Self:
        """The pipeline as it is now; ``terms`` do not follow when more appear."""
        names: dict[str, int] = {}
        for stream in streams.values():
            for name in stream.names:
                names.setdefault(name, len(names))
        if len(streams) == 1:
            return cls(streams, tuple(names), ())
        places = (np.array([names[n] for n in s.names], np.int64) for s in streams.values())
        return cls(streams, tuple(names), tuple(places))

    @property
    def lowest(self) -> StreamAggregate:
        """The stream of the lowest rank."""
        return next(iter(self.streams.values()))

    def take(self, column: Column) -> Array:
        """``[T, …]``, every term's from the lowest rank that has it."""
        return self._combine(column, lambda _, lower: lower)

    def add(self, column: Column) -> Array:
        """``[T, …]``: sums over ranks, always in the same order: rounding cannot make one fall."""
        return self._combine(column, np.add)

    def highest(self, column: Column) -> Array:
        """``[T, …]``: maxima over ranks; NaN where all are."""
        return self._combine(column, np.fmax)

    def _combine(self, column: Column, function: Function) -> Array:
        parts = [column(stream.terms) for stream in self.streams.values()]
        return combine(parts, self.places, len(self.terms), function) if self.places else parts[0]


def combine(
    parts: Sequence[Array], places: Sequence[NDArray[np.int64]], count: int, function: Function
) -> Array:
    """``[count, …]``: what ranks have in common.

    Args:
        parts: ``[T, …]`` of each rank, or of one rank of each of many pipelines; the lowest first.
        places: ``[T]``, where each row belongs; none twice for one part.
        count: how many places there are; each belongs to some row.
        function: of what higher ranks have together, and a lower one.
    """
    combined = np.zeros((count, *parts[0].shape[1:]), parts[0].dtype)
    unset = np.ones(count, np.bool_)
    for place, part in reversed(list(zip(places, parts, strict=True))):
        both = function(combined[place], part)
        first = unset[place].reshape(-1, *[1] * (part.ndim - 1))
        combined[place] = np.where(first, part, both)
        unset[place] = False
    return combined
