"""Fewer points that look the same."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tsdownsample import NaNMinMaxDownsampler

LEAST_POINTS: Final = 4
"""Two ends and the extremes between."""


def thin(
    step: NDArray[np.int64], value: NDArray[np.float64], points: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most so many of the points, in order: the ends, and of every stretch the extremes.

    Of a stretch with a NaN one of the two is the NaN; an infinity is an extreme anyway.

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
    even = points - 2 - points % 2
    downsampler = NaNMinMaxDownsampler()  # type: ignore[no-untyped-call]
    if step[0] == step[-1]:  # stretches of nothing would be empty
        chosen = downsampler.downsample(value, n_out=even)
    else:
        chosen = downsampler.downsample(step, value, n_out=even)
    index = np.unique(np.concatenate(([0, len(step) - 1], chosen.astype(np.int64))))
    return step[index], value[index]
