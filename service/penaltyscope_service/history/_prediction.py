"""Columns as rows of integers: how far numbers are from what follows from other columns.

Contributions follow from weights and values, totals from contributions. Doubles become integers in
the same order: close numbers are close integers.
"""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Octets = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_LEAST: Final = np.int64(-(2**63))
"""The bits of -0.0: to be told from 0.0, it comes before all others."""
_DROPPED: Final = 29
"""Bits of a double's fraction that a float32 has no room for."""
_HALF: Final = 1 << (_DROPPED - 1)
_KEPT: Final = -(1 << _DROPPED)
_LARGEST_EXACT: Final = 2.0**53

_INTEGERS: Final = types.Array(types.int64, 1, "A", readonly=True)
_MASK: Final = types.Array(types.boolean, 1, "A", readonly=True)
_COLUMN: Final = types.Array(types.float64, 1, "A", readonly=True)
_FLAGS: Final = types.Array(types.int32, 2, "C", readonly=True)
_LINE: Final = types.Array(types.float64, 1, "C")
_BITS: Final = types.Array(types.int64, 1, "C")
_ROWS: Final = types.Array(types.float64, 2, "C")
_INTEGER_ROWS: Final = types.Array(types.int64, 2, "C")
_GIVEN: Final = types.Array(types.float64, 2, "C", readonly=True)
_GIVEN_LINE: Final = types.Array(types.float64, 1, "C", readonly=True)
_SHORT: Final = types.Array(types.boolean, 1, "C", readonly=True)
_FORMS: Final = types.Array(types.uint8, 1, "C")


def exchange(bits: Integers) -> Integers:
    """The bits of doubles for such integers, or the integers for their bits.

    A negative number's integer is minus that of its absolute value, so that the zeros at the end
    of a fraction, of a float32 for one, are zeros at the end of the integer.

    Args:
        bits: in the order of C.
    """
    exchanged = np.empty_like(bits)
    _exchange(bits.reshape(-1), exchanged.reshape(-1))
    return exchanged


def contributions(weight: Numbers, value: Numbers, short: Mask) -> Numbers:
    """``[T, N]`` products; where the real ones are short, they are rounded too."""
    product = np.empty_like(value)
    _multiply(weight, value, short, product)
    return product


def totals(contribution: Numbers, short: Mask) -> Numbers:
    """``[1, N]`` sums of ``[T, N]``, added in one order everywhere; they are rounded likewise."""
    sums = np.zeros((1, contribution.shape[1]))
    _add(contribution, short, sums)
    return sums


@part(types.int64(types.int64))
def _exchanged(bits: np.int64) -> np.int64:
    negative = (bits < 0) & (bits != _LEAST)  # `and` would be a branch
    return _LEAST - bits if negative else bits


@kernel(
    types.void(types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C"))
)
def _exchange(bits: Integers, exchanged: Integers) -> None:
    for i in range(len(bits)):
        exchanged[i] = _exchanged(bits[i])


@part(types.float64(types.float64))
def _rounded(number: float) -> float:
    """As the recorder does it: a half away from zero, at any exponent."""
    bits = np.float64(number).view(np.int64)
    return np.int64(bits + _HALF & _KEPT).view(np.float64)


@part(types.void(_LINE))
def _round(numbers: Numbers) -> None:
    for i in range(len(numbers)):
        numbers[i] = _rounded(numbers[i])


@part(types.void(_GIVEN_LINE, _GIVEN_LINE, _LINE))
def _multiply_line(factors: Numbers, numbers: Numbers, product: Numbers) -> None:
    for i in range(len(product)):
        found = factors[i] * numbers[i]
        # The sign of a NaN that an operation makes differs between processors, and files move.
        product[i] = numbers[i] if found != found else found


@part(types.void(types.boolean, _LINE))
def _finish_sum(short: bool, sums: Numbers) -> None:
    for i in range(len(sums)):
        sums[i] = 0.0 if sums[i] != sums[i] else sums[i]
    if short:
        _round(sums)


@kernel(types.void(_GIVEN, _GIVEN, _SHORT, _ROWS))
def _multiply(weight: Numbers, value: Numbers, short: Mask, product: Numbers) -> None:
    for term in range(len(value)):
        _multiply_line(weight[term], value[term], product[term])
        if short[term]:
            _round(product[term])


@kernel(types.void(_GIVEN, _SHORT, _ROWS))
def _add(contribution: Numbers, short: Mask, sums: Numbers) -> None:
    line = sums[0]
    for term in range(len(contribution)):
        numbers = contribution[term]
        for i in range(len(line)):
            line[i] += numbers[i]
    _finish_sum(short[0], line)


@part(types.boolean(_GIVEN_LINE))
def _is_short(numbers: Numbers) -> bool:
    """Whether all have 24 digits at most."""
    together = np.int64(0)
    for i in range(len(numbers)):
        together |= np.float64(numbers[i]).view(np.int64)
    return bool(together & ~_KEPT == 0)


@part(types.void(_COLUMN, _LINE))
def _copy(column: Numbers, line: Numbers) -> None:
    for i in range(len(line)):
        line[i] = column[i]


@part(types.void(_GIVEN_LINE, _BITS))
def _exchange_line(line: Numbers, row: Integers) -> None:
    for i in range(len(row)):
        row[i] = _exchanged(np.float64(line[i]).view(np.int64))


@part(types.void(_COLUMN, _LINE, _BITS))
def _put(column: Numbers, line: Numbers, row: Integers) -> None:
    """Fills a row with a column, which is in ``line`` then."""
    _copy(column, line)
    _exchange_line(line, row)


@part(types.void(_GIVEN_LINE, _LINE, _BITS))
def _put_distances(line: Numbers, predicted: Numbers, row: Integers) -> None:
    for i in range(len(row)):
        integer = _exchanged(np.float64(line[i]).view(np.int64))
        row[i] = integer - _exchanged(np.float64(predicted[i]).view(np.int64))


@part(types.boolean(_LINE, _BITS))
def _put_nanoseconds(seconds: Numbers, row: Integers) -> bool:
    """Durations as clocks tell them; whether that loses no bit."""
    for i in range(len(seconds)):
        scaled = np.rint(seconds[i] * 1e9)
        if not abs(scaled) < _LARGEST_EXACT:
            return False
        row[i] = np.int64(scaled)
        if np.float64(row[i] / 1e9).view(np.int64) != np.float64(seconds[i]).view(np.int64):
            return False
    return True


@part(types.void(*(_INTEGERS,) * 3, _MASK, _INTEGER_ROWS))
def _put_integers(
    step: Integers, seq: Integers, stop_ns: Integers, has_base: Mask, rows: Integers
) -> None:
    steps, numbers, times, bases = rows[0], rows[1], rows[2], rows[3]
    for i in range(len(steps)):
        steps[i], numbers[i], times[i], bases[i] = step[i], seq[i], stop_ns[i], has_base[i]


@kernel(
    types.boolean(
        *(*(_INTEGERS,) * 3, _MASK, *(_COLUMN,) * 3),
        *(_GIVEN, _GIVEN, _GIVEN, _COLUMN, _GIVEN, _FLAGS, _INTEGER_ROWS, _FORMS),
    )
)
def put_columns(
    step: Integers,
    seq: Integers,
    stop_ns: Integers,
    has_base: Mask,
    duration: Numbers,
    base: Numbers,
    total_norm: Numbers,
    value: Numbers,
    weight: Numbers,
    contribution: Numbers,
    total: Numbers,
    norm: Numbers,
    flags: NDArray[np.int32],
    rows: Integers,
    forms: Octets,
) -> bool:
    """Fills ``[8 + 5T, N]`` rows with the columns of a block, in this order.

    Args:
        step: ``[N]``, as are the next six.
        seq: a column.
        stop_ns: a column.
        has_base: a column.
        duration: a column.
        base: a column.
        total_norm: a column.
        value: ``[T, N]``, as are the next two.
        weight: a column.
        contribution: a column.
        total: ``[N]``.
        norm: ``[T, N]``.
        flags: ``[T, N]``.
        rows: to be filled.
        forms: ``[T + 2]``, takes whether the contributions of each term and the totals have 24
            digits at most, and whether durations are whole nanoseconds.

    Returns:
        Whether the columns are as long as each other; otherwise nothing is filled.
    """
    terms, count = value.shape
    if not (
        len(step) == len(seq) == len(stop_ns) == len(has_base) == len(duration) == count
        and len(base) == len(total_norm) == len(total) == count
        and weight.shape == contribution.shape == norm.shape == flags.shape == value.shape
    ):
        return False
    line, product, sums = np.empty(count), np.empty(count), np.zeros(count)
    _put_integers(step, seq, stop_ns, has_base, rows)
    _copy(duration, line)
    forms[terms + 1] = _put_nanoseconds(line, rows[4])
    if not forms[terms + 1]:
        _put(duration, line, rows[4])
    _put(base, line, rows[5])
    _put(total_norm, line, rows[6])
    for term in range(terms):
        _exchange_line(norm[term], rows[8 + 3 * terms + term])
        _exchange_line(weight[term], rows[7 + terms + term])
        _exchange_line(value[term], rows[7 + term])
        _multiply_line(weight[term], value[term], product)
        found = contribution[term]
        forms[term] = _is_short(found)
        if forms[term]:
            _round(product)
        _put_distances(found, product, rows[7 + 2 * terms + term])
        for i in range(count):
            sums[i] += found[i]
        given, bits = flags[term], rows[8 + 4 * terms + term]
        for i in range(count):
            bits[i] = given[i]
    _copy(total, line)
    forms[terms] = _is_short(line)
    _finish_sum(bool(forms[terms]), sums)
    _put_distances(line, sums, rows[7 + 3 * terms])
    return True
