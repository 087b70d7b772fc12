"""The last numbers of a block, looked for from its newest evaluation back.

Most of the time the newest evaluation alone says it all; the others are not looked at then.
Blocks are in ascending order of ``seq`` here, and gauges are those of ``Gauges``: a number does not
replace one of a later evaluation.
"""

from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part
from penaltyscope_service.measured import DISABLED, GRADIENT_FINDING, NO_NORM

Numbers = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

_COLUMNS: Final = types.Array(types.int64, 1, "C", readonly=True)
_SEQ: Final = types.Array(types.int64, 1, "A", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 1, "A", readonly=True)
_TABLE: Final = types.Array(types.float64, 2, "A", readonly=True)
_THERE: Final = types.Array(types.boolean, 1, "A", readonly=True)
_BITS: Final = types.Array(types.int32, 1, "A", readonly=True)
_FLAGS: Final = types.Array(types.int32, 2, "A", readonly=True)
_WEIGHTED: Final = types.Array(types.float64, 1, "C")
_GAUGE_SEQ: Final = types.Array(types.int64, 2, "C")
_GAUGES: Final = types.Array(types.float64, 2, "C"), _GAUGE_SEQ
_LATEST: Final = types.Array(types.float64, 2, "C"), types.Array(types.boolean, 2, "C")


@part(types.boolean(types.float64, types.boolean, types.int64, *_GAUGES, types.int64, types.int64))
def _hold(
    number: float,
    real: bool,
    seq: int,
    finite: Numbers,
    finite_seq: Integers,
    column: int,
    gauge: int,
) -> bool:
    """Sets a gauge; returns whether earlier evaluations cannot matter to it."""
    if finite_seq[column, gauge] < seq and real and np.isfinite(number):
        finite[column, gauge], finite_seq[column, gauge] = number, seq
    settled: bool = finite_seq[column, gauge] >= seq
    return settled


@part(
    types.void(_SEQ, _NUMBERS, _BITS, types.int64, *_GAUGES, types.int64, types.int64),
)
def _hold_column(
    seq: Integers,
    numbers: Numbers,
    flags: Integers,
    unreal: int,
    finite: Numbers,
    finite_seq: Integers,
    column: int,
    gauge: int,
) -> None:
    """Sets a gauge by numbers that mean something unless one of the flags ``unreal`` is set."""
    for row in range(len(seq) - 1, -1, -1):
        real = not flags[row] & unreal
        if _hold(numbers[row], real, seq[row], finite, finite_seq, column, gauge):
            return


@part(types.float64(_WEIGHTED))
def _sum(numbers: Numbers) -> float:
    """The sum, rounded as NumPy rounds it: pairwise."""
    count = len(numbers)
    if count > 128:
        half = count // 2 - count // 2 % 8
        return _sum(numbers[:half]) + _sum(numbers[half:])
    whole = count - count % 8 if count >= 8 else 0
    total = 0.0
    if whole:
        parts = numbers[:8].copy()
        for i in range(8, whole):
            parts[i % 8] += numbers[i]
        low = (parts[0] + parts[1]) + (parts[2] + parts[3])
        total = low + ((parts[4] + parts[5]) + (parts[6] + parts[7]))
    for i in range(whole, count):
        total += numbers[i]
    return total


@part(types.float64(_TABLE, _TABLE, _FLAGS, types.int64, _WEIGHTED))
def _weigh(weight: Numbers, norm: Numbers, flags: Integers, row: int, weighted: Numbers) -> float:
    """The sum of all weighted gradient norms; they themselves are written to ``weighted``."""
    for i in range(len(weighted)):
        weighted[i] = 0.0 if flags[row, i] & NO_NORM else abs(weight[row, i]) * norm[row, i]
    return _sum(weighted)


@part(types.boolean(types.int64, types.float64))
def _has_share(flags: int, weight: float) -> bool:
    """Whether a term has one, if shares can be told: its norm was measured, or it is idle."""
    return not flags & NO_NORM or flags & DISABLED != 0 or weight == 0


@part(types.boolean(_COLUMNS, _TABLE, _FLAGS, types.int64, _GAUGE_SEQ, types.int64))
def _is_wanted(
    columns: Integers, weight: Numbers, flags: Integers, row: int, finite_seq: Integers, seq: int
) -> bool:
    """Whether an evaluation may have a share that is not known yet."""
    wanted = False
    for i in range(len(columns)):
        if finite_seq[columns[i], 4] < seq:
            wanted |= _has_share(flags[row, i], weight[row, i])
    return wanted


@part(types.void(_COLUMNS, _SEQ, _TABLE, _TABLE, _FLAGS, *_GAUGES, *_LATEST))
def _hold_shares(
    columns: Integers,
    seq: Integers,
    weight: Numbers,
    norm: Numbers,
    flags: Integers,
    finite: Numbers,
    finite_seq: Integers,
    latest: Numbers,
    latest_real: Mask,
) -> None:
    """Sets the gauges of shares: weighted gradient norm over the sum of all terms'.

    It cannot be told at an evaluation of which a measured norm is not finite. A term that is
    disabled or has no weight has a share of 0; one whose norm was not measured for another reason
    has none.
    """
    weighted = np.empty(len(columns))
    last = len(seq) - 1
    for row in range(last, -1, -1):
        if row < last and not _is_wanted(columns, weight, flags, row, finite_seq, seq[row]):
            continue
        total = _weigh(weight, norm, flags, row, weighted)
        known = np.isfinite(total) and total > 0
        settled = True
        for i in range(len(columns)):
            column = columns[i]
            share = weighted[i] / total if known else np.nan
            real = known and _has_share(flags[row, i], weight[row, i])
            settled &= _hold(share, real, seq[row], finite, finite_seq, column, 4)
            if row == last:
                latest[column, 4], latest_real[column, 4] = share, real
        if settled:
            return


@kernel(
    types.void(_COLUMNS, _SEQ, _TABLE, _TABLE, _TABLE, _TABLE, _FLAGS, *_GAUGES, *_LATEST),
)
def hold_terms(
    columns: Integers,
    seq: Integers,
    value: Numbers,
    weight: Numbers,
    contribution: Numbers,
    norm: Numbers,
    flags: Integers,
    finite: Numbers,
    finite_seq: Integers,
    latest: Numbers,
    latest_real: Mask,
) -> None:
    """Holds the numbers of terms: value, weight, contribution, gradient norm and its share.

    Args:
        columns: ``[T]``, where the terms of the block are among all.
        seq: ``[N]``.
        value: ``[N, T]``, as are the next four: columns of the block.
        weight: a column.
        contribution: a column.
        norm: a column.
        flags: a column.
        finite: ``[C, 5]``, the gauges.
        finite_seq: ``[C, 5]``, the evaluations that they are of.
        latest: ``[C, 5]``, takes the numbers of the last evaluation.
        latest_real: ``[C, 5]``, takes which of them mean something.
    """
    last = len(seq) - 1
    for i in range(len(columns)):
        column, bits = columns[i], flags[:, i]
        latest[column, 0], latest[column, 1] = value[last, i], weight[last, i]
        latest[column, 2], latest[column, 3] = contribution[last, i], norm[last, i]
        latest_real[column, :4] = True
        latest_real[column, 0] = not bits[last] & DISABLED
        latest_real[column, 3] = not bits[last] & NO_NORM
        _hold_column(seq, value[:, i], bits, DISABLED, finite, finite_seq, column, 0)
        _hold_column(seq, weight[:, i], bits, 0, finite, finite_seq, column, 1)
        _hold_column(seq, contribution[:, i], bits, 0, finite, finite_seq, column, 2)
        _hold_column(seq, norm[:, i], bits, NO_NORM, finite, finite_seq, column, 3)
    _hold_shares(columns, seq, weight, norm, flags, finite, finite_seq, latest, latest_real)


@part(types.boolean(types.float64, _BITS))
def _norm_measured(norm: float, flags: Integers) -> bool:
    """As ``total_norm_measured`` tells it of one evaluation."""
    union = 0
    for bits in flags:
        union |= bits
    return not np.isnan(norm) or union & GRADIENT_FINDING != 0


@kernel(
    types.void(_SEQ, _NUMBERS, _NUMBERS, _THERE, _NUMBERS, _FLAGS, *_GAUGES, *_LATEST),
)
def hold_totals(
    seq: Integers,
    total: Numbers,
    base: Numbers,
    has_base: Mask,
    norm: Numbers,
    flags: Integers,
    finite: Numbers,
    finite_seq: Integers,
    latest: Numbers,
    latest_real: Mask,
) -> None:
    """Holds the numbers of a pipeline: total, base, loss, norm of the total's gradient.

    Args:
        seq: ``[N]``, as are the next four: columns of the block.
        total: a column.
        base: a column.
        has_base: a column.
        norm: a column.
        flags: ``[N, T]``, of the block.
        finite: ``[1, 4]``, the gauges.
        finite_seq: ``[1, 4]``, the evaluations that they are of.
        latest: ``[1, 4]``, takes the numbers of the last evaluation.
        latest_real: ``[1, 4]``, takes which of them mean something.
    """
    for row in range(len(seq) - 1, -1, -1):
        loss = total[row] + (base[row] if has_base[row] else 0.0)
        if np.isnan(loss):
            loss = np.nan  # of two NaN added, either one's sign may remain
        measured = _norm_measured(norm[row], flags[row])
        settled = _hold(total[row], True, seq[row], finite, finite_seq, 0, 0)
        settled &= _hold(base[row], has_base[row], seq[row], finite, finite_seq, 0, 1)
        settled &= _hold(loss, True, seq[row], finite, finite_seq, 0, 2)
        settled &= _hold(norm[row], measured, seq[row], finite, finite_seq, 0, 3)
        if row == len(seq) - 1:
            latest[0, 0], latest[0, 1], latest[0, 2] = total[row], base[row], loss
            latest[0, 3] = norm[row]
            latest_real[0, 0], latest_real[0, 1], latest_real[0, 2] = True, has_base[row], True
            latest_real[0, 3] = measured
        if settled:
            return
