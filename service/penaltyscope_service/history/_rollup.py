"""What a chart needs of a packed block when many steps share a pixel."""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.kernel import kernel, part
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
    flags = block.flags
    real = {
        "base": block.has_base,
        "total": np.ones(len(block), np.bool_),
        "total_gradient_norm": total_norm_measured(block.total_gradient_norm, flags),
        "value": evaluated(flags),
        "gradient_norm": norm_measured(flags),
    }
    real["contribution"] = real["value"]
    stretches, columns = -(-len(block) // ROLLUP_ROWS), 3 + 3 * len(block.terms)
    # Nothing below looks whether columns are as long as each other; encoding the block has done so.
    cells = np.empty((stretches, columns, 6), np.int64)
    for i, name in enumerate(_SCALARS):
        column, there = getattr(block, name)[:, None], real[name][:, None]
        _fill(column, there, block.step, cells[:, i : i + 1])
    for i, name in enumerate(_MATRICES, start=len(_SCALARS)):
        _fill(getattr(block, name), real[name], block.step, cells[:, i :: len(_MATRICES)])
    if not cells[:, :, 2].any():
        cells[:, :, 5] = 0
    rollups: NDArray[np.void] = cells.view(ROLLUP)[:, :, 0]
    return rollups


def rollup_column(column: str, term: int) -> int:
    """Where a column of the block is; ``term`` is the term's place, for columns by term."""
    if column in _SCALARS:
        return _SCALARS.index(column)
    return len(_SCALARS) + len(_MATRICES) * term + _MATRICES.index(column)


@part(
    types.void(
        types.Array(types.float64, 1, "A", readonly=True),
        types.Array(types.boolean, 1, "A", readonly=True),
        types.Array(types.int64, 1, "A", readonly=True),
        types.Array(types.int64, 1, "A"),
    )
)
def _find(
    numbers: NDArray[np.float64],
    real: NDArray[np.bool_],
    step: NDArray[np.int64],
    cell: NDArray[np.int64],
) -> None:
    """Fills a rollup of numbers that are all of them."""
    low, high, strange = np.inf, -np.inf, 0.0
    low_row = high_row = strange_row = 0
    for row in range(len(numbers)):
        number = numbers[row]
        if low <= number <= high or not real[row]:
            continue  # which is true of nearly all
        if not np.isfinite(number):
            if strange == 0:
                strange, strange_row = number, row
            continue
        if number < low:
            low, low_row = number, row
        if number > high:
            high, high_row = number, row
    cell[0] = np.float64(low).view(np.int64)
    cell[1] = np.float64(high).view(np.int64)
    cell[2] = np.float64(strange).view(np.int64)
    cell[3], cell[4], cell[5] = step[low_row], step[high_row], step[strange_row]


@kernel(
    types.void(
        types.Array(types.float64, 2, "A", readonly=True),
        types.Array(types.boolean, 2, "A", readonly=True),
        types.Array(types.int64, 1, "A", readonly=True),
        types.Array(types.int64, 3, "A"),
    )
)
def _fill(
    numbers: NDArray[np.float64],
    real: NDArray[np.bool_],
    step: NDArray[np.int64],
    cells: NDArray[np.int64],
) -> None:
    """Fills rollups, as integers of the same bits.

    Args:
        numbers: ``[N, C]``
        real: where they are there and mean something.
        step: ``[N]``
        cells: ``[S, C, 6]``, with ``S`` times ``ROLLUP_ROWS`` not less than ``N``.
    """
    for stretch in range(len(cells)):
        start = stretch * ROLLUP_ROWS
        stop = min(start + ROLLUP_ROWS, len(numbers))
        for column in range(numbers.shape[1]):
            _find(
                numbers[start:stop, column],
                real[start:stop, column],
                step[start:stop],
                cells[stretch, column],
            )
