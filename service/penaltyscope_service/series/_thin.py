"""Fewer points that look the same."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxDownsampler

LEAST_POINTS: Final = 4
"""Two ends and two points between."""


def thin(
    step: NDArray[np.int64], value: NDArray[np.float64], points: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most so many of the points, in order: the ends, and of every stretch the extremes.

    Numbers that are not finite are thinned apart from the others: the extremes of a stretch with a
    NaN would be the NaN, and hide the very peak that led to it. Where they begin and end is kept.

    Args:
        step: ``[N]``, ascending, perhaps with repetitions.
        value: ``[N]``.
        points: at least 4.

    Raises:
        ValueError: if there are fewer.
    """
    if points < LEAST_POINTS:
        raise ValueError(f"points must be at least {LEAST_POINTS}, got {points}.")
    if len(step) <= points:
        return step, value
    finite = np.isfinite(value)
    bad = _spread(np.flatnonzero(~finite), points // 2)
    extremes = _extremes(np.flatnonzero(finite), value, points - len(bad) - 2)
    index = np.sort(np.concatenate(([0, len(step) - 1], bad, extremes)))
    index = index[np.append(True, index[1:] != index[:-1])]
    return step[index], value[index]


def _spread(where: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of these positions: the ends of those that follow each other, and others."""
    if len(where) <= most:
        return where
    gap = np.diff(where) > 1
    edges = where[np.append(gap, True) | np.insert(gap, 0, True)]
    if len(edges) > most // 2:
        edges = _evenly(edges, most // 2)
    return np.union1d(edges, _evenly(where, most - len(edges)))


def _evenly(positions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    chosen: NDArray[np.int64] = positions[
        np.linspace(0, len(positions) - 1, count).astype(np.int64)
    ]
    return chosen


def _extremes(where: NDArray[np.int64], value: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Of every stretch of these positions the smallest and the largest number."""
    if len(where) <= most:
        return where
    even = most - most % 2
    if not even:  # what is not finite has taken all the room
        return where[:0]
    # Stretches of equal length in steps would be empty in a gap; and given steps that repeat or
    # are very large, the downsampler loses extremes, and even panics (tsdownsample 0.1.5).
    downsampler = MinMaxDownsampler()  # type: ignore[no-untyped-call]
    chosen = downsampler.downsample(value[where], n_out=even)
    extremes: NDArray[np.int64] = where[chosen.astype(np.int64)]
    return extremes
