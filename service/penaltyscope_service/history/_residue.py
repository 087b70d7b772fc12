"""Rows of integers made small: without what the numbers of a row have in common."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Naturals = NDArray[np.uint64]

HEAD: Final = np.dtype(
    [("origin", "<i8"), ("shift", "u1"), ("order", "u1"), ("width", "u1"), ("noise", "u1")]
)
"""Of each row: the number from which the others are counted, zeros at the end of all numbers, how
often differences are taken, bits of a residue, and how many of them, the lowest, are noise. A row
without any bits is a constant."""

_ORDERS: Final = 3
"""Of differences, at most: what a schedule computes is a polynomial, nearly."""
_WINDOWS: Final = 4
_WINDOW: Final = 16
"""Stretches of each row that are looked at to choose an order, and numbers of each."""
_WORTH: Final = 0.1
"""Bits of a number that each order has to save."""
_USUAL: Final = 0.97
"""Of all residues that are no wider than usual."""
_TELLING: Final = 3
"""Bits of the median residue that are not noise: enough to tell how residues scatter, few enough
to learn it from a thousand of them."""
_HIGH_BITS: Final = 8
"""That are not noise, at most."""
_PATCH_BITS: Final = 96
_WORTH_PATCHES: Final = 3
"""Bits of a residue that they save: of fewer, an entropy code takes care."""


class Patches(NamedTuple):
    """Few residues that are much wider than the others of their row."""

    places: NDArray[np.uint32]
    """``[P]``, among all ``A * N`` that there are."""
    residues: Naturals
    """``[P]``"""


class Residues(NamedTuple):
    """What is left of ``[C, N]`` integers."""

    heads: NDArray[np.void]
    """``[C]`` of type ``HEAD``."""
    numbers: Naturals
    """``[A, N]``, of the rows that are no constants; 0 in place of a patch."""
    patches: Patches


def shrink(rows: Integers) -> Residues:
    """Residues of ``[C, N]`` integers, ``N`` at least 1; overflow wraps, here and back."""
    heads = np.zeros(len(rows), HEAD)
    heads["origin"] = rows[:, 0]
    active = np.flatnonzero((rows != rows[:, :1]).any(axis=1))
    kept = heads[active]
    numbers = rows[active]
    kept["shift"] = _zeros_at_the_end(numbers)
    numbers >>= kept["shift"][:, None]
    sample = _choose_order(numbers, kept)
    for order in range(_ORDERS):
        higher = kept["order"] > order
        if higher.any():
            differences = numbers[higher]
            differences[:, 1:] -= differences[:, :-1]
            numbers[higher] = differences
    residues = _zigzag(numbers, kept["origin"])
    patches = _narrow(residues, kept, _zigzag(sample, kept["origin"]))
    heads[active] = kept
    return Residues(heads, residues, patches)


def grow(heads: NDArray[np.void], residues: Naturals) -> Integers:
    """``[C, N]`` integers of ``[C]`` heads and ``[C, N]`` residues, 0 those of a constant."""
    numbers: Integers = (residues >> np.uint64(1)).view(np.int64)
    numbers ^= -(residues & np.uint64(1)).view(np.int64)
    numbers += heads["origin"][:, None]
    for order in range(_ORDERS):
        higher = heads["order"] > order
        if higher.any():
            numbers[higher] = np.cumsum(numbers[higher], axis=1)
    numbers <<= heads["shift"][:, None]
    return numbers


def _zeros_at_the_end(numbers: Integers) -> list[int]:
    together = np.bitwise_or.reduce(numbers, axis=1).tolist()
    return [(bits & -bits).bit_length() - 1 for bits in together]


def _choose_order(numbers: Integers, heads: NDArray[np.void]) -> Integers:
    """Sets order and origin; returns a sample of what is left when the differences are taken."""
    rows = numbers.shape[1]
    orders = _ORDERS if rows >= _WINDOW + _ORDERS else 0
    size = min(_WINDOW, rows - orders)
    width = size + orders
    starts = np.arange(_WINDOWS) * (rows - width) // (_WINDOWS - 1)
    differences = numbers[:, starts[:, None] + np.arange(width)]
    samples = np.empty((orders + 1, len(numbers), _WINDOWS, size), np.int64)
    samples[0] = differences[:, :, orders:]
    for order in range(1, orders + 1):
        differences = differences[:, :, 1:] - differences[:, :, :-1]
        samples[order] = differences[:, :, orders - order :]
    samples = np.sort(samples.reshape(orders + 1, len(numbers), _WINDOWS * size), axis=2)
    origins = samples[:, :, _WINDOWS * size // 2]
    distances = np.abs((samples - origins[:, :, None]).astype(np.float64))
    bits = np.log2(distances + 1).mean(axis=2) + np.arange(orders + 1)[:, None] * _WORTH
    best = bits.argmin(axis=0)
    row = np.arange(len(numbers))
    heads["order"], heads["origin"] = best, origins[best, row]
    chosen: Integers = samples[best, row]
    return chosen


def _zigzag(numbers: Integers, origin: Integers) -> Naturals:
    """Distances from an origin, the small ones first whatever their sign."""
    distance = numbers - origin[:, None]
    sign = distance >> 63
    distance <<= 1
    distance ^= sign
    return distance.view(np.uint64)


def _narrow(residues: Naturals, heads: NDArray[np.void], sample: Naturals) -> Patches:
    """Sets the width: of all residues of a row, or of nearly all; takes the others out."""
    rows, drawn = residues.shape[1], sample.shape[1]
    widest = residues.max(axis=1).tolist()
    typical = np.sort(sample, axis=1)[:, [drawn // 2, int(drawn * _USUAL)]].tolist()
    places, taken = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for row, (most, (median, usual)) in enumerate(zip(widest, typical, strict=True)):
        width, narrow = most.bit_length(), usual.bit_length() + 1
        if width - narrow >= _WORTH_PATCHES:
            wide = np.flatnonzero(residues[row] >= np.uint64(1 << narrow))
            if len(wide) * _PATCH_BITS < rows * (width - narrow):
                places.append(row * rows + wide)
                taken.append(residues[row, wide])
                residues[row, wide] = 0
                width = narrow
        heads["width"][row] = max(width, 1)  # 0 is a constant: also its differences are none
        heads["noise"][row] = max(median.bit_length() - _TELLING, width - _HIGH_BITS, 0)
    return Patches(np.concatenate(places).astype("<u4"), np.concatenate(taken).astype("<u8"))
