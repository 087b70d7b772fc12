"""What follows from other columns: contributions from weights and values, totals from those."""

from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._number import exchange

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

_DROPPED: Final = 29
"""Bits of a double's fraction that a float32 has no room for."""


def are_short(numbers: Integers) -> Mask:
    """``[K]``: whether all of ``[K, N]``, the integers of doubles, have 24 digits at most."""
    short: Mask = np.bitwise_or.reduce(numbers, axis=1) & ((1 << _DROPPED) - 1) == 0
    return short


def as_integers(predicted: Numbers, short: Mask) -> Integers:
    """``[K, N]`` predictions as integers; where the real ones are short, they are rounded too.

    The recorder rounds a half away from zero, at any exponent.
    """
    bits = predicted.view(np.int64)
    if short.any():
        rounded = bits + (1 << (_DROPPED - 1))
        rounded &= -(1 << _DROPPED)
        bits = np.where(short[:, None], rounded, bits)
    return exchange(bits)


def contributions(weight: Numbers, value: Numbers) -> Numbers:
    """``[T, N]`` products."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = weight * value
    strange = np.isnan(product)
    # The sign of a NaN that an operation makes differs between processors, and files can move.
    return np.where(strange, value, product) if strange.any() else product


def totals(contribution: Numbers) -> Numbers:
    """``[1, N]`` sums of ``[T, N]``, added in one order everywhere."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = reduce(np.add, contribution, np.zeros(contribution.shape[1]))
    return np.where(np.isnan(sums), 0.0, sums)[None]
