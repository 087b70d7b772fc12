"""What a chart needs of a packed block when many steps share a pixel."""

from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.kernel import by_term, kernel, part
from penaltyscope_service.measured import DISABLED, GRADIENT_FINDING, NO_NORM

Numbers = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

ROLLUP_ROWS: Final = 256
"""Evaluations in one rollup."""
_EXPONENT: Final = 0x7FF << 52
"""All of its bits are set in what is not finite."""
# What was compiled would not notice a change of these elsewhere; being in the file, they have none.
_DISABLED: Final = DISABLED
_NO_NORM: Final = NO_NORM
_GRADIENT_FINDING: Final = GRADIENT_FINDING

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
    stretches, columns = -(-len(block) // ROLLUP_ROWS), 3 + 3 * len(block.terms)
    cells = np.empty((stretches, columns, 6), np.int64)
    # Nothing below looks whether columns are as long as each other; encoding the block has done so.
    _roll_up(
        block.step,
        block.has_base,
        np.ascontiguousarray(block.base),
        np.ascontiguousarray(block.total),
        np.ascontiguousarray(block.total_gradient_norm),
        by_term(block.value),
        by_term(block.contribution),
        by_term(block.gradient_norm),
        by_term(block.flags),
        cells,
    )
    rollups: NDArray[np.void] = cells.view(ROLLUP)[:, :, 0]
    return rollups


def rollup_column(column: str, term: int) -> int:
    """Where a column of the block is; ``term`` is the term's place, for columns by term."""
    if column in _SCALARS:
        return _SCALARS.index(column)
    return len(_SCALARS) + len(_MATRICES) * term + _MATRICES.index(column)


_INTEGERS: Final = types.Array(types.int64, 1, "A", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 1, "C", readonly=True)
_TABLE: Final = types.Array(types.float64, 2, "C", readonly=True)
_MASK: Final = types.Array(types.boolean, 1, "A", readonly=True)
_FLAGS: Final = types.Array(types.int32, 2, "C", readonly=True)
_BITS: Final = types.Array(types.int32, 1, "C", readonly=True)
_REAL: Final = types.Array(types.boolean, 1, "C")
_LINE: Final = types.Array(types.float64, 1, "C")
_CELL: Final = types.Array(types.int64, 1, "A")
_CELLS: Final = types.Array(types.int64, 3, "C")


@part(types.boolean(_NUMBERS, _LINE))
def _copy(numbers: Numbers, line: Numbers) -> bool:
    """Fills a line with numbers, and NaN behind them; whether all of them are finite."""
    strange = np.int64(0)
    for row in range(len(numbers)):
        number = np.float64(numbers[row])
        line[row] = number
        strange |= np.int64(number.view(np.int64) & _EXPONENT == _EXPONENT)
    for row in range(len(numbers), len(line)):
        line[row] = np.nan
    return bool(strange == 0)


@part(types.int64(_REAL, _LINE))
def _sift(real: Mask, line: Numbers) -> int:
    """Leaves what is real and finite, NaN in place of all else; the first row not finite, or -1."""
    strange = -1
    for row in range(len(real)):
        is_finite = np.isfinite(line[row])
        if real[row] and not is_finite and strange < 0:
            strange = row
        if not (real[row] and is_finite):
            line[row] = np.nan
    return strange


@part(types.UniTuple(types.float64, 2)(_LINE))
def _extremes(line: Numbers) -> tuple[float, float]:
    """The least and the greatest number; infinite where there are only NaN."""
    # Four side by side: to compare one after the other takes twice the time or more.
    low_0 = low_1 = low_2 = low_3 = np.inf
    high_0 = high_1 = high_2 = high_3 = -np.inf
    for start in range(0, len(line), 4):
        some = line[start : start + 4]
        a, b, c, d = some[0], some[1], some[2], some[3]
        low_0, high_0 = a if a < low_0 else low_0, a if a > high_0 else high_0
        low_1, high_1 = b if b < low_1 else low_1, b if b > high_1 else high_1
        low_2, high_2 = c if c < low_2 else low_2, c if c > high_2 else high_2
        low_3, high_3 = d if d < low_3 else low_3, d if d > high_3 else high_3
    low = min(min(low_0, low_1), min(low_2, low_3))
    return low, max(max(high_0, high_1), max(high_2, high_3))


@part(types.UniTuple(types.int64, 2)(_LINE, types.float64, types.float64))
def _first_rows(line: Numbers, low: float, high: float) -> tuple[int, int]:
    """The first rows of both numbers; 0 where there is none."""
    none = len(line)
    low_row = high_row = none
    for row in range(len(line)):
        low_row = min(low_row, row if line[row] == low else none)
        high_row = min(high_row, row if line[row] == high else none)
    return low_row % none, high_row % none


@part(types.void(_NUMBERS, types.boolean, _REAL, _INTEGERS, _LINE, _CELL))
def _find(
    numbers: Numbers, masked: bool, real: Mask, step: Integers, line: Numbers, cell: Integers
) -> None:
    """Fills a rollup of numbers that are all of them, and ``line`` on the way."""
    are_finite, strange = _copy(numbers, line), -1
    if masked or not are_finite:
        strange = _sift(real, line)
    low, high = _extremes(line)
    low_row, high_row = _first_rows(line, low, high)
    # Of two zeros with different signs the first is meant, whichever was found.
    low = line[low_row] if low == 0 else low
    high = line[high_row] if high == 0 else high
    cell[0], cell[1] = np.float64(low).view(np.int64), np.float64(high).view(np.int64)
    cell[2] = np.float64(numbers[strange]).view(np.int64) if strange >= 0 else 0
    cell[3], cell[4], cell[5] = step[low_row], step[high_row], step[max(strange, 0)]


@part(types.boolean(_FLAGS))
def _are_flagged(flags: Integers) -> bool:
    together = np.int32(0)
    for bits in flags.reshape(-1):
        together |= bits
    return bool(together != 0)


@part(types.void(_BITS, types.int64, _REAL))
def _leave_out(flags: Integers, unreal: int, real: Mask) -> None:
    """What means nothing because of a flag."""
    for row in range(len(real)):
        real[row] = not flags[row] & unreal


@part(types.void(_NUMBERS, _FLAGS, types.int64, _REAL))
def _leave_out_unmeasured(norm: Numbers, flags: Integers, start: int, real: Mask) -> None:
    """As ``total_norm_measured`` tells it."""
    for row in range(len(real)):
        union = 0
        if np.isnan(norm[row]):
            for term in range(len(flags)):
                union |= flags[term, start + row]
        real[row] = not np.isnan(norm[row]) or union & _GRADIENT_FINDING


@kernel(
    types.void(
        *(_INTEGERS, _MASK, _NUMBERS, _NUMBERS, _NUMBERS),
        *(_TABLE, _TABLE, _TABLE, _FLAGS, _CELLS),
    )
)
def _roll_up(
    step: Integers,
    has_base: Mask,
    base: Numbers,
    total: Numbers,
    total_norm: Numbers,
    value: Numbers,
    contribution: Numbers,
    norm: Numbers,
    flags: Integers,
    cells: Integers,
) -> None:
    """Fills rollups, as integers of the same bits.

    Args:
        step: ``[N]``, as are the next four: columns of the block.
        has_base: a column.
        base: a column.
        total: a column.
        total_norm: a column.
        value: ``[T, N]``, as are the next three: columns of the block.
        contribution: a column.
        norm: a column.
        flags: a column.
        cells: ``[S, 3 + 3T, 6]``, with ``S`` times ``ROLLUP_ROWS`` not less than ``N``.
    """
    flagged = _are_flagged(flags)
    line, mask = np.empty(ROLLUP_ROWS), np.ones(ROLLUP_ROWS, np.bool_)
    for stretch in range(len(cells)):
        start, found = stretch * ROLLUP_ROWS, cells[stretch]
        stop = min(start + ROLLUP_ROWS, len(step))
        steps, real = step[start:stop], mask[: stop - start]
        real[:] = True
        _find(total[start:stop], False, real, steps, line, found[1])
        for term in range(len(value)):
            bits, cell = flags[term, start:stop], 3 + 3 * term
            if flagged:
                _leave_out(bits, _DISABLED, real)
            _find(value[term, start:stop], flagged, real, steps, line, found[cell])
            _find(contribution[term, start:stop], flagged, real, steps, line, found[cell + 1])
            if flagged:
                _leave_out(bits, _NO_NORM, real)
            _find(norm[term, start:stop], flagged, real, steps, line, found[cell + 2])
        _leave_out_unmeasured(total_norm[start:stop], flags, start, real)
        _find(total_norm[start:stop], False, real, steps, line, found[2])
        for row in range(len(real)):
            real[row] = has_base[start + row]
        _find(base[start:stop], True, real, steps, line, found[0])
    if not cells[:, :, 2].any():
        cells[:, :, 5] = 0
