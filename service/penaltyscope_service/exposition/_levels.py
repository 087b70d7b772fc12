"""The ranks of many pipelines, in an order in which they can be put together all at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.aggregate import PipelineAggregate, StreamAggregate, combine

Array = NDArray[Any]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Levels:
    """First the lowest rank of each pipeline, then the next of those that have one, and so on.

    Within such a level no two ranks are of the same pipeline.
    """

    streams: Sequence[StreamAggregate]
    """``S`` of them, level by level."""
    pipelines: Sequence[Places]
    """For each level, the places of its ranks' pipelines among all."""
    terms: Sequence[Places]
    """For each level, the places of its ranks' terms among all; ``R`` in all levels."""
    lowest: Places
    """``[T]``: for each term, which of the ``R`` is that of the lowest rank that has it."""

    @classmethod
    def of(cls, pipelines: Sequence[PipelineAggregate]) -> Self:
        """At least one pipeline, as they are now."""
        streams: list[list[StreamAggregate]] = []
        numbers: list[list[int]] = []
        places: list[list[Places]] = []
        terms = 0
        for number, pipeline in enumerate(pipelines):
            own = pipeline.places or (np.arange(len(pipeline.terms)),)
            for level, stream in enumerate(pipeline.streams.values()):
                if level == len(streams):
                    streams.append([])
                    numbers.append([])
                    places.append([])
                streams[level].append(stream)
                numbers[level].append(number)
                places[level].append(terms + own[level])
            terms += len(pipeline.terms)
        of_terms = [np.concatenate(level) for level in places]
        return cls(
            streams=list(chain.from_iterable(streams)),
            pipelines=[np.array(level) for level in numbers],
            terms=of_terms,
            lowest=np.unique(np.concatenate(of_terms), return_index=True)[1],
        )

    def stack(self, column: Callable[[StreamAggregate], Array]) -> Array:
        """A column of all streams."""
        return np.concatenate([column(stream) for stream in self.streams])

    def total(self, rows: Array) -> Array:
        """``[P, …]`` sums over ranks of ``[S, …]``, the lowest rank first."""
        first, *others = _split(rows, self.pipelines)
        for places, part in zip(self.pipelines[1:], others, strict=True):
            first[places] += part
        return first

    def combine(self, rows: Array, function: Callable[[Array, Array], Array]) -> Array:
        """``[T, …]``: what ranks have in common of ``[R, …]``, as one pipeline's are combined."""
        if len(self.terms) == 1:
            return rows
        return combine(_split(rows, self.terms), self.terms, len(self.lowest), function)


def _split(rows: Array, places: Sequence[Places]) -> list[Array]:
    """The rows of each level."""
    return np.split(rows, np.cumsum([len(level) for level in places])[:-1])
