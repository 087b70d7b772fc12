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
"""The columns that have rollups: first the scalars, then term by term those by term."""

ROLLUP: Final = np.dtype(
    [
        ("lowest", "<f8"),
        ("highest", "<f8"),
        ("last", "<f8"),
        ("nonfinite", "<f8"),
        ("lowest_step", "<i8"),
        ("highest_step", "<i8"),
        ("nonfinite_step", "<i8"),
        ("finite_count", "<u2"),
        ("nonfinite_count", "<u2"),
    ]
)
"""Of one column: the extremes of its finite numbers, the last one, and the first that is not
finite, each with its step. A number means something only where the count beside it is not 0."""


def roll_up(block: StepBlock) -> NDArray[np.void]:
    """``[S, 3 + 3T]`` of type ``ROLLUP``: one row for each ``ROLLUP_ROWS`` evaluations."""
    starts = range(0, len(block), ROLLUP_ROWS)
    return np.stack([_roll_up(block.take(slice(i, i + ROLLUP_ROWS))) for i in starts])


def rollup_column(column: str, term: int) -> int:
    """Where a column of the block is; ``term`` is the term's place, for columns by term."""
    if column in _SCALARS:
        return _SCALARS.index(column)
    return len(_SCALARS) + len(_MATRICES) * term + _MATRICES.index(column)


def _roll_up(block: StepBlock) -> NDArray[np.void]:
    numbers, real = _columns(block)
    finite = real & np.isfinite(numbers)
    strange = real & ~finite
    column = np.arange(numbers.shape[1])
    lowest = np.where(finite, numbers, np.inf).argmin(axis=0)
    highest = np.where(finite, numbers, -np.inf).argmax(axis=0)
    last = len(block) - 1 - finite[::-1].argmax(axis=0)
    first_strange = strange.argmax(axis=0)
    rollup = np.zeros(numbers.shape[1], ROLLUP)
    rollup["lowest"], rollup["lowest_step"] = numbers[lowest, column], block.step[lowest]
    rollup["highest"], rollup["highest_step"] = numbers[highest, column], block.step[highest]
    rollup["last"] = numbers[last, column]
    rollup["nonfinite"] = numbers[first_strange, column]
    rollup["nonfinite_step"] = block.step[first_strange]
    rollup["finite_count"], rollup["nonfinite_count"] = finite.sum(axis=0), strange.sum(axis=0)
    return rollup


def _columns(block: StepBlock) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``[N, 3 + 3T]``: the numbers, and where they mean something."""
    rows, terms = block.value.shape
    scalars = np.stack((block.base, block.total, block.total_gradient_norm), axis=1)
    real_scalars = np.stack(
        (
            block.has_base,
            np.ones(rows, np.bool_),
            total_norm_measured(block.total_gradient_norm, block.flags),
        ),
        axis=1,
    )
    matrices = np.stack((block.value, block.contribution, block.gradient_norm), axis=2)
    was_evaluated = evaluated(block.flags)
    real = np.stack((was_evaluated, was_evaluated, norm_measured(block.flags)), axis=2)
    return (
        np.concatenate((scalars, matrices.reshape(rows, 3 * terms)), axis=1),
        np.concatenate((real_scalars, real.reshape(rows, 3 * terms)), axis=1),
    )
