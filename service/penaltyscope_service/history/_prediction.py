"""What follows from other columns: contributions from weights and values, totals from those."""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

_DROPPED: Final = 29
"""Bits of a double's fraction that a float32 has no room for."""
_HALF: Final = 1 << (_DROPPED - 1)
_KEPT: Final = -(1 << _DROPPED)

_ROWS: Final = types.Array(types.float64, 2, "C")
_GIVEN: Final = types.Array(types.float64, 2, "C", readonly=True)
_SHORT: Final = types.Array(types.boolean, 1, "C", readonly=True)


def are_short(numbers: Integers) -> Mask:
    """``[K]``: whether all of ``[K, N]``, the bits of doubles, have 24 digits at most."""
    short: Mask = np.bitwise_or.reduce(numbers, axis=1) & ~_KEPT == 0
    return short


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


@part(types.float64(types.float64))
def _rounded(number: float) -> float:
    """As the recorder does it: a half away from zero, at any exponent."""
    bits = np.float64(number).view(np.int64)
    return np.int64(bits + _HALF & _KEPT).view(np.float64)


@kernel(types.void(_GIVEN, _GIVEN, _SHORT, _ROWS))
def _multiply(weight: Numbers, value: Numbers, short: Mask, product: Numbers) -> None:
    for term in range(len(value)):
        factors, numbers, line = weight[term], value[term], product[term]
        for i in range(len(line)):
            found = factors[i] * numbers[i]
            # The sign of a NaN that an operation makes differs between processors, and files move.
            line[i] = numbers[i] if found != found else found
        if short[term]:
            for i in range(len(line)):
                line[i] = _rounded(line[i])


@kernel(types.void(_GIVEN, _SHORT, _ROWS))
def _add(contribution: Numbers, short: Mask, sums: Numbers) -> None:
    line = sums[0]
    for term in range(len(contribution)):
        numbers = contribution[term]
        for i in range(len(line)):
            line[i] += numbers[i]
    for i in range(len(line)):
        line[i] = 0.0 if line[i] != line[i] else line[i]
        line[i] = _rounded(line[i]) if short[0] else line[i]
