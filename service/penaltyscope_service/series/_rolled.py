"""Lines from rollups: the extremes of many steps at once."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history import BlockHead, Reader, rollup_column
from penaltyscope_service.series._lines import LineKey
from penaltyscope_service.series._raw import Points

_POINTS = (
    ("lowest_step", "lowest", "finite_count"),
    ("highest_step", "highest", "finite_count"),
    ("nonfinite_step", "nonfinite", "nonfinite_count"),
)
"""The points that a rollup may have: step, value, and the count that must not be 0."""


def read_rolled(
    reader: Reader, heads: Iterable[BlockHead], keys: Sequence[LineKey]
) -> list[Points]:
    """The points of every line, in no order."""
    found: list[list[NDArray[np.void]]] = [[] for _ in keys]
    for head in heads:
        rollup = reader.rollup(head)
        for key, parts in zip(keys, found, strict=True):
            place = key.place(head.terms)
            if place is not None:
                parts.append(rollup[:, rollup_column(key.column, place)])
    return [_points(parts) for parts in found]


def _points(parts: list[NDArray[np.void]]) -> Points:
    if not parts:
        return np.empty(0, np.int64), np.empty(0)
    rollup = np.concatenate(parts)
    there = [rollup[count] > 0 for *_, count in _POINTS]
    steps = [rollup[step][t] for (step, *_), t in zip(_POINTS, there, strict=True)]
    values = [rollup[value][t] for (_, value, _), t in zip(_POINTS, there, strict=True)]
    return np.concatenate(steps), np.concatenate(values)
