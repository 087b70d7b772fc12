"""What a chart needs of a packed block when many steps share a pixel."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.measured import evaluated, norm_measured, total_norm_measured

ROLLUP_ROWS: Final = 256
"""Evaluations in one rollup."""

_SCALARS: Final = ("base", "total", "total_gradient_norm")
_MATRICES: Final = ("value", "contribution", "gradient_norm")
"""The columns that have rollups: first the scalars, then those by term, one after the other."""

ROLLUP: Final = np.dtype(
    [
        ("lowest", "<f8"),
        ("highest", "<f8"),
        ("strange", "<f8"),
        ("lowest_step", "<i8"),
        ("highest_step", "<i8"),
        ("strange_step", "<i8"),
    ]
)
"""Of one column: the extremes of its finite numbers, and the first one that is not finite, each
with its step. Without finite numbers the lowest is above the highest; where all are finite,
``strange`` is 0."""


def roll_up(block: StepBlock) -> NDArray[np.void]:
    """``[S, 3 + 3T]`` of type ``ROLLUP``: one row for each ``ROLLUP_ROWS`` evaluations."""
    numbers, real = _columns(block)
    finite = np.isfinite(numbers) & real
    low, high = numbers, numbers
    if not finite.all():
        low, high = np.where(finite, numbers, np.inf), np.where(finite, numbers, -np.inf)
    rollup = np.zeros(numbers.shape[:2], ROLLUP)
    _set(rollup, "lowest", low, low.argmin(axis=2), block.step)
    _set(rollup, "highest", high, high.argmax(axis=2), block.step)
    strange = real & ~finite
    if strange.any():
        _set(rollup, "strange", np.where(strange, numbers, 0), strange.argmax(axis=2), block.step)
    return rollup.T


def rollup_column(column: str, term: int) -> int:
    """Where a column of the block is; ``term`` is the term's place, for columns by term."""
    if column in _SCALARS:
        return _SCALARS.index(column)
    return len(_SCALARS) + len(_MATRICES) * term + _MATRICES.index(column)


def _set(
    rollup: NDArray[np.void],
    name: str,
    numbers: NDArray[np.float64],
    place: NDArray[np.int64],
    step: NDArray[np.int64],
) -> None:
    """Sets a number and its step: of every stretch the one in its place."""
    rollup[name] = np.take_along_axis(numbers, place[:, :, None], axis=2)[:, :, 0]
    rollup[f"{name}_step"] = step[np.arange(numbers.shape[1]) * ROLLUP_ROWS + place]


def _columns(block: StepBlock) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``[3 + 3T, S, ROLLUP_ROWS]``: the numbers, and where they are there and mean something."""
    rows = len(block)
    stretches = -(-rows // ROLLUP_ROWS)
    shape = 3 + 3 * len(block.terms), stretches * ROLLUP_ROWS
    numbers, real = np.zeros(shape), np.zeros(shape, np.bool_)
    for i, name in enumerate(_SCALARS):
        numbers[i, :rows] = getattr(block, name)
    for i, name in enumerate(_MATRICES):
        numbers[3 + i :: 3, :rows] = getattr(block, name).T
    real[:, :rows] = True
    real[0, :rows] = block.has_base
    real[2, :rows] = total_norm_measured(block.total_gradient_norm, block.flags)
    if block.flags.any():
        real[3::3, :rows] = real[4::3, :rows] = evaluated(block.flags).T
        real[5::3, :rows] = norm_measured(block.flags).T
    cut = shape[0], stretches, ROLLUP_ROWS
    return numbers.reshape(cut), real.reshape(cut)
