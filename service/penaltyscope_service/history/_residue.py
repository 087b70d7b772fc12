"""Rows of integers made small: without what the numbers of a row have in common."""

from typing import Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

Integers = NDArray[np.int64]
Naturals = NDArray[np.uint64]
Octets = NDArray[np.uint8]
Places = NDArray[np.uint32]

HEAD: Final = np.dtype(
    [("origin", "<i8"), ("shift", "u1"), ("order", "u1"), ("width", "u1"), ("noise", "u1")]
)
"""Of each row: the number from which the others are counted, zeros at the end of all numbers, how
often differences are taken, bits of a residue, and how many of them, the lowest, are noise. A row
without any bits is a constant."""

_FIELDS: Final = HEAD.names or ()

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
_LEAST: Final = -(2**63)

_ROW: Final = types.Array(types.int64, 1, "C")
_ROWS: Final = types.Array(types.int64, 2, "C")
_GIVEN: Final = types.Array(types.int64, 2, "C", readonly=True)
_OCTETS: Final = types.Array(types.uint8, 2, "C")
_PLACES: Final = types.Array(types.uint32, 1, "C")


class Patches(NamedTuple):
    """Few residues that are much wider than the others of their row."""

    places: Places
    """``[P]``, among all ``A * N`` that there are."""
    residues: Naturals
    """``[P]``"""


class Residues(NamedTuple):
    """What is left of ``[C, N]`` integers."""

    heads: NDArray[np.void]
    """``[C]`` of type ``HEAD``."""
    numbers: Naturals
    """``[A, N]``, of the rows that are no constants; 0 in place of a patch."""
    noise: Naturals
    """``[A]``: of each, how many of the lowest bits are noise."""
    high: Octets
    """``[A, N]``: the bits above them."""
    patches: Patches


def shrink(rows: Integers) -> Residues:
    """Residues of ``[C, N]`` integers, ``N`` at least 1; overflow wraps, here and back.

    Args:
        rows: the integers, which are lost.
    """
    fields, noise = np.empty((len(rows), HEAD.itemsize), np.uint8), np.empty(len(rows), np.uint64)
    high = np.empty(rows.shape, np.uint8)
    places, taken = np.empty(rows.size, np.uint32), np.empty(rows.size, np.int64)
    active, patches = _shrink(rows, fields, noise, high, places, taken)
    return Residues(
        fields.view(HEAD)[:, 0],
        rows[:active].view(np.uint64),
        noise[:active],
        high[:active],
        Patches(places[:patches].astype("<u4"), taken[:patches].astype("<u8")),
    )


def grow(heads: NDArray[np.void], residues: Naturals) -> Integers:
    """``[C, N]`` integers of ``[C]`` heads and ``[C, N]`` residues, 0 those of a constant."""
    numbers = residues.view(np.int64).copy()
    _grow(np.stack([heads[name] for name in _FIELDS], axis=1, dtype=np.int64), numbers)
    return numbers


@kernel(types.void(_GIVEN, _ROWS))
def _grow(heads: Integers, numbers: Integers) -> None:
    """Residues made numbers."""
    for row in range(len(numbers)):
        line = numbers[row]
        origin, shift, order, _, _ = heads[row]
        for i in range(len(line)):
            line[i] = (line[i] >> 1 & _LARGEST ^ -(line[i] & 1)) + origin
        for _ in range(order):
            for i in range(1, len(line)):
                line[i] += line[i - 1]
        for i in range(len(line)):
            line[i] <<= shift


@part(types.int64(_ROW, types.int64))
def _ordered(sample: Integers, place: int) -> int:
    """The number that is at a place when they are sorted.

    To compare a few of so few with every other takes less time than to sort them.
    """
    least, greatest = _LEAST, _LARGEST
    for i in range(len(sample)):
        number = int(sample[i])
        if number < least or number > greatest:
            continue
        lower = not_higher = 0
        for j in range(len(sample)):
            lower += sample[j] < number
            not_higher += sample[j] <= number
        if lower > place:
            greatest = number - 1
        elif not_higher <= place:
            least = number + 1
        else:
            return number
    return least  # never: one of them is at that place


@part(types.float64(_ROW, types.int64))
def _mean_bits(sample: Integers, origin: int) -> float:
    """The mean of the binary logarithms of distances from an origin."""
    whole, product = np.int64(0), 1.0
    for i in range(len(sample)):
        bits = np.float64(abs(np.float64(sample[i] - origin)) + 1).view(np.int64)
        whole += (bits >> _FRACTION) - _BIAS
        # Each is from 1 to 2, and the product of so few no larger than a double can be.
        product *= np.int64(bits & _MANTISSA | _ONE).view(np.float64)
    return float((whole + np.log2(product)) / len(sample))


@part(types.UniTuple(types.int64, 3)(_ROW, _ROWS))
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


@part(types.void(types.int64, types.Array(types.uint8, 1, "C")))
def _put_origin(origin: int, head: Octets) -> None:
    for octet in range(8):
        head[octet] = origin >> (8 * octet) & 0xFF


@part(types.int64(_ROW, types.int64))
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


@part(types.int64(_ROW, types.int64))
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


@part(types.int64(_ROW))
def _zeros_at_the_end(line: Integers) -> int:
    """Of all numbers; -1 where they are all the same."""
    together = different = 0
    for i in range(len(line)):
        together |= line[i]
        different |= line[i] ^ line[0]
    if not different:
        return -1
    zeros = 0
    while not together & 1:
        together >>= 1
        zeros += 1
    return zeros


@part(types.int64(_ROW, types.int64, types.int64, types.int64, _PLACES, _ROW))
def _take_wide(
    line: Integers, width: int, usual: int, first: int, places: Places, taken: Integers
) -> int:
    """Takes out what is wider than usual, and returns how many they are; 0 if it is not worth it.

    Args:
        line: the residues of a row.
        width: bits of the widest.
        usual: bits of nearly all.
        first: the place of the first one among the residues of all rows.
        places: of those that are taken, to be filled.
        taken: they themselves, to be filled.
    """
    if width - usual < _WORTH_PATCHES:
        return 0
    count = 0
    for i in range(len(line)):
        count += np.uint64(line[i]) >> np.uint64(usual) != 0
    if count * _PATCH_BITS >= len(line) * (width - usual):
        return 0
    count = 0
    for i in range(len(line)):
        if np.uint64(line[i]) >> np.uint64(usual):
            places[count], taken[count] = first + i, line[i]
            line[i] = 0
            count += 1
    return count


@part(types.void(_ROW, types.int64, types.Array(types.uint8, 1, "C")))
def _take_high(line: Integers, noise: int, high: Octets) -> None:
    for i in range(len(line)):
        high[i] = np.uint64(line[i]) >> np.uint64(noise) & np.uint64(0xFF)


@kernel(types.UniTuple(types.int64, 2)(_ROWS, _OCTETS, types.uint64[::1], _OCTETS, _PLACES, _ROW))
def _shrink(
    rows: Integers,
    heads: Octets,
    noise: Naturals,
    high: Octets,
    places: Places,
    taken: Integers,
) -> tuple[int, int]:
    """Fills heads, and as many of the rest as it returns: active rows, and patches.

    The residues of active rows take the place of the first of all rows.
    """
    samples = np.empty((_ORDERS + 1, _WINDOWS * _WINDOW), np.int64)
    active = patches = 0
    for row in range(len(rows)):
        source, numbers, head = rows[row], rows[active], heads[row]
        head[:] = 0
        shift = _zeros_at_the_end(source)
        if shift < 0:
            _put_origin(source[0], head)
            continue
        for i in range(len(source)):
            numbers[i] = source[i] >> shift
        order, origin, drawn = _choose_order(numbers, samples)
        for _ in range(order):
            for i in range(len(numbers) - 1, 0, -1):
                numbers[i] -= numbers[i - 1]
        width, sample = _zigzag(numbers, origin), samples[order][:drawn]
        _zigzag(sample, origin)
        usual, first = _bits(sample, int(drawn * _USUAL)) + 1, active * len(numbers)
        found = _take_wide(numbers, width, usual, first, places[patches:], taken[patches:])
        width = usual if found else max(width, 1)  # 0 is a constant
        lowest = max(_bits(sample, drawn // 2) - _TELLING, width - _HIGH_BITS, 0)
        _put_origin(origin, head)
        head[8], head[9], head[10], head[11] = shift, order, width, lowest
        noise[active] = lowest
        _take_high(numbers, lowest, high[active])
        active, patches = active + 1, patches + found
    return active, patches
