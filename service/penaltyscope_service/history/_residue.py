"""Rows of integers made small: without what the numbers of a row have in common."""

from typing import Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel

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

_FRACTION: Final = 52
"""Bits of a double's fraction."""
_BIAS: Final = 1023
"""Of its exponent."""
_MANTISSA: Final = (1 << _FRACTION) - 1
_ONE: Final = _BIAS << _FRACTION
_LARGEST: Final = 2**63 - 1

_ROW: Final = types.Array(types.int64, 1, "C")
_ROWS: Final = types.Array(types.int64, 2, "C")
_GIVEN: Final = types.Array(types.int64, 2, "C", readonly=True)
_PLACES: Final = types.Array(types.uint32, 1, "C")


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
    fields = np.zeros((len(rows), len(HEAD)), np.int64)
    residues = np.empty_like(rows)
    places, taken = np.empty(rows.size, np.uint32), np.empty(rows.size, np.int64)
    active, patches = _shrink(rows, fields, residues, places, taken)
    heads = np.empty(len(rows), HEAD)
    for name, field in zip(HEAD.names or (), fields.T, strict=True):
        heads[name] = field
    return Residues(
        heads,
        residues[:active].view(np.uint64),
        Patches(places[:patches].astype("<u4"), taken[:patches].astype("<u8")),
    )


def grow(heads: NDArray[np.void], residues: Naturals) -> Integers:
    """``[C, N]`` integers of ``[C]`` heads and ``[C, N]`` residues, 0 those of a constant."""
    numbers = residues.view(np.int64).copy()
    fields = np.stack([heads[name] for name in ("origin", "shift", "order")], axis=1, dtype=np.int64)
    _grow(fields, numbers)
    return numbers


@kernel(types.void(_GIVEN, _ROWS))
def _grow(heads: Integers, numbers: Integers) -> None:
    """Residues made numbers; of the heads, origin, shift and order."""
    for row in range(len(numbers)):
        line = numbers[row]
        origin, shift, order = heads[row, 0], heads[row, 1], heads[row, 2]
        for i in range(len(line)):
            line[i] = (line[i] >> 1 & _LARGEST ^ -(line[i] & 1)) + origin
        for _ in range(order):
            for i in range(1, len(line)):
                line[i] += line[i - 1]
        for i in range(len(line)):
            line[i] <<= shift


@kernel(types.int64(_ROW, types.int64))
def _ordered(sample: Integers, place: int) -> int:
    """The number that is at a place when they are sorted.

    To compare each of so few with every other takes less time than to sort them.
    """
    found, none = sample[0], True
    for i in range(len(sample)):
        lower = 0
        for j in range(len(sample)):
            lower += sample[j] < sample[i]
        if lower <= place and (none or sample[i] > found):
            found, none = sample[i], False
    return found


@kernel(types.float64(_ROW, types.int64))
def _mean_bits(sample: Integers, origin: int) -> float:
    """The mean of the binary logarithms of distances from an origin."""
    whole, product = 0, 1.0
    for i in range(len(sample)):
        bits = np.float64(abs(np.float64(sample[i] - origin)) + 1).view(np.int64)
        whole += (bits >> _FRACTION) - _BIAS
        # Each is from 1 to 2, and the product of so few no larger than a double can be.
        product *= np.int64(bits & _MANTISSA | _ONE).view(np.float64)
    return (whole + np.log2(product)) / len(sample)


@kernel(types.UniTuple(types.int64, 3)(_ROW, _ROWS))
def _choose_order(numbers: Integers, samples: Integers) -> tuple[int, int, int]:
    """The order, the origin, and how many numbers a sample has.

    Fills samples of what is left when differences are taken, a row for each order.
    """
    orders = _ORDERS if len(numbers) >= _WINDOW + _ORDERS else 0
    size = min(_WINDOW, len(numbers) - orders)
    line = np.empty(size + orders, np.int64)
    for window in range(_WINDOWS):
        start = window * (len(numbers) - len(line)) // (_WINDOWS - 1)
        for i in range(len(line)):
            line[i] = numbers[start + i]
        for order in range(orders + 1):
            for i in range(size):
                samples[order, window * size + i] = line[orders + i]
            for i in range(len(line) - 1, order, -1):
                line[i] -= line[i - 1]
    drawn = _WINDOWS * size
    best, chosen, least = 0, 0, np.inf
    for order in range(orders + 1):
        sample = samples[order][:drawn]
        origin = _ordered(sample, drawn // 2)
        bits = _mean_bits(sample, origin) + order * _WORTH
        if bits < least:
            best, chosen, least = order, origin, bits
    return best, chosen, drawn


@kernel(types.int64(_ROW, types.int64))
def _zigzag(line: Integers, origin: int) -> int:
    """Distances from an origin, the small ones first whatever their sign; bits of the widest."""
    together = np.uint64(0)
    for i in range(len(line)):
        distance = line[i] - origin
        line[i] = distance << 1 ^ distance >> 63
        together |= np.uint64(line[i])
    width = 0
    while together:
        together >>= np.uint64(1)
        width += 1
    return width


@kernel(types.int64(_ROW, types.int64))
def _bits(sample: Integers, place: int) -> int:
    """Of the number that is at a place when they are sorted, as natural ones."""
    low, high = 0, 64
    while low < high:
        middle = (low + high) // 2
        narrower = 0
        for i in range(len(sample)):
            narrower += np.uint64(sample[i]) >> np.uint64(middle) == 0
        if narrower > place:
            high = middle
        else:
            low = middle + 1
    return low


@kernel(types.int64(_ROW, types.int64, types.int64, _PLACES, _ROW))
def _take_wide(
    line: Integers, bits: int, first: int, places: NDArray[np.uint32], taken: Integers
) -> int:
    """Takes out what has more bits; returns how many they are.

    Args:
        line: the residues of a row.
        bits: of the others.
        first: the place of the first one among those of all rows.
        places: to be filled, as are those that are taken.
    """
    count = 0
    for i in range(len(line)):
        if np.uint64(line[i]) >> np.uint64(bits):
            places[count], taken[count] = first + i, line[i]
            line[i] = 0
            count += 1
    return count


@kernel(
    types.UniTuple(types.int64, 2)(
        _GIVEN, _ROWS, _ROWS, _PLACES, _ROW
    )
)
def _shrink(
    rows: Integers,
    heads: Integers,
    residues: Integers,
    places: NDArray[np.uint32],
    taken: Integers,
) -> tuple[int, int]:
    """Fills heads, zeros before, and as many of the others as it returns: rows, and patches."""
    samples = np.empty((_ORDERS + 1, _WINDOWS * _WINDOW), np.int64)
    active = patches = 0
    for row in range(len(rows)):
        source, head, numbers = rows[row], heads[row], residues[active]
        head[0] = source[0]
        together = different = 0
        for i in range(len(source)):
            together |= source[i]
            different |= source[i] ^ source[0]
        if not different:
            continue
        while not together & 1:
            together >>= 1
            head[1] += 1
        for i in range(len(source)):
            numbers[i] = source[i] >> head[1]
        head[2], head[0], drawn = _choose_order(numbers, samples)
        for _ in range(head[2]):
            for i in range(len(numbers) - 1, 0, -1):
                numbers[i] -= numbers[i - 1]
        width = _zigzag(numbers, head[0])
        sample = samples[head[2]][:drawn]
        _zigzag(sample, head[0])
        narrow = _bits(sample, int(drawn * _USUAL)) + 1
        if width - narrow >= _WORTH_PATCHES:
            wide = 0
            for i in range(len(numbers)):
                wide += np.uint64(numbers[i]) >> np.uint64(narrow) != 0
            if wide * _PATCH_BITS < len(numbers) * (width - narrow):
                first = active * len(numbers)
                patches += _take_wide(numbers, narrow, first, places[patches:], taken[patches:])
                width = narrow
        head[3] = max(width, 1)  # 0 is a constant: also its differences are none
        head[4] = max(_bits(sample, drawn // 2) - _TELLING, width - _HIGH_BITS, 0)
        active += 1
    return active, patches
