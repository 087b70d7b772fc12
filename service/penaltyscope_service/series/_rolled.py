"""Lines from rollups: the extremes of many steps at once."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history import BlockHead, Reader, rollup_column
from penaltyscope_service.series._lines import LineKey
from penaltyscope_service.series._raw import Points


def read_rolled(
    reader: Reader, heads: Iterable[BlockHead], keys: Sequence[LineKey]
) -> list[Points]:
    """The points of every line, in no order."""
    by_terms: dict[tuple[str, ...], list[BlockHead]] = {}
    for head in heads:
        by_terms.setdefault(head.terms, []).append(head)
    found: list[list[Points]] = [[] for _ in keys]
    for terms, alike in by_terms.items():
        places = [key.place(terms) for key in keys]
        there = [i for i, place in enumerate(places) if place is not None]
        columns = [rollup_column(keys[i].column, places[i] or 0) for i in there]
        rollups = reader.rollups(alike, columns)
        for column, i in enumerate(there):
            found[i] += _points(rollups[:, column])
    nothing = (np.empty(0, np.int64), np.empty(0))
    return [
        (
            np.concatenate([nothing[0], *(step for step, _ in points)]),
            np.concatenate([nothing[1], *(value for _, value in points)]),
        )
        for points in found
    ]


def _points(rollup: NDArray[np.void]) -> list[Points]:
    real = rollup["lowest"] <= rollup["highest"]
    strange = ~np.isfinite(rollup["strange"])
    return [
        (rollup["lowest_step"][real], rollup["lowest"][real]),
        (rollup["highest_step"][real], rollup["highest"][real]),
        (rollup["strange_step"][strange], rollup["strange"][strange]),
    ]
