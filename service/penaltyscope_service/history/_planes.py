"""The low bits of integers, bit by bit: first the lowest of all, then the next of all.

What is noise takes its bits and not one more, whatever their number. A bit of 64 numbers is one
word. Reference: Masui et al., "A compression scheme for radio data in high performance
computing", Astronomy and Computing 12 (2015): bitshuffle; Warren, "Hacker's Delight" (2012), 7-3.
"""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.kernel import kernel, part

Words = NDArray[np.uint64]

_HALF: Final = 32
"""Bits that are moved at a time, of 32 numbers in one half of a word and of 32 in the other."""
_SHIFT: Final = np.uint64(_HALF)
_LOW_HALF: Final = np.uint64(2**_HALF - 1)
_SQUARES: Final = types.Array(types.uint64, 2, "C")
_GIVEN: Final = types.Array(types.uint64, 2, "C", readonly=True)
_BITS: Final = types.Array(types.uint64, 1, "C", readonly=True)


def pack_planes(numbers: Words, bits: Words) -> bytes:
    """The lowest bits of each of ``[C]`` columns, of numbers ``[C, N]``."""
    rows = numbers.shape[1]
    planes = np.empty((int(bits.sum()), -(-rows // 64)), np.uint64)
    _pack(numbers, bits, planes)
    return planes.astype("<u8", copy=False).view(np.uint8)[:, : -(-rows // 8)].tobytes()


def unpack_planes(data: bytes, bits: Words, rows: int, chosen: NDArray[np.bool_]) -> Words:
    """``[K, rows]``: what was packed, of the ``K`` columns that are chosen of ``[C]``."""
    groups, total = -(-rows // 8), int(bits.sum())
    packed = np.frombuffer(data, np.uint8).reshape(total, groups)
    packed = packed[np.repeat(chosen, bits.astype(np.intp))]
    planes = np.zeros((len(packed), -(-rows // 64)), "<u8")
    planes.view(np.uint8)[:, :groups] = packed  # one for each bit of the chosen columns
    numbers = np.zeros((np.count_nonzero(chosen), rows), np.uint64)
    _unpack(planes.astype(np.uint64, copy=False), bits[chosen], numbers)
    return numbers


@part(types.void(_SQUARES, *(types.uint64,) * 3))
def _swap(squares: Words, distance: np.uint64, outer: np.uint64, inner: np.uint64) -> None:
    """Squares of bits change places with those beside the diagonal.

    Args:
        squares: ``[32, M]``.
        distance: how wide the squares are; then it is done again to those half as wide.
        outer: the columns of the first of each pair of squares.
        inner: those of the squares half as wide.
    """
    wide, half = int(distance), int(distance) // 2
    for i in range(_HALF):
        if i & (wide | half) == 0:
            first, second = squares[i], squares[i + half]
            third, fourth = squares[i + wide], squares[i + wide + half]
            for j in range(len(first)):
                a, b, c, d = first[j], second[j], third[j], fourth[j]
                ac, bd = (a >> distance ^ c) & outer, (b >> distance ^ d) & outer
                a, b, c, d = a ^ ac << distance, b ^ bd << distance, c ^ ac, d ^ bd
                nearer = distance >> np.uint64(1)
                ab, cd = (a >> nearer ^ b) & inner, (c >> nearer ^ d) & inner
                first[j], second[j] = a ^ ab << nearer, b ^ ab
                third[j], fourth[j] = c ^ cd << nearer, d ^ cd


@part(types.void(_SQUARES))
def _transpose(squares: Words) -> None:
    """Rows of bits made columns: of ``[32, M]`` words, ``2 * M`` squares of 32 x 32."""
    _swap(squares, np.uint64(16), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00FF00FF00FF00FF))
    _swap(squares, np.uint64(4), np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x3333333333333333))
    for i in range(0, _HALF, 2):
        upper, lower = squares[i], squares[i + 1]
        for j in range(len(upper)):
            swapped = (upper[j] >> np.uint64(1) ^ lower[j]) & np.uint64(0x5555555555555555)
            lower[j] ^= swapped
            upper[j] ^= swapped << np.uint64(1)


@kernel(types.void(_GIVEN, _BITS, _SQUARES))
def _pack(numbers: Words, bits: Words, planes: Words) -> None:
    """Fills ``planes``, of which there must be as many as bits."""
    words = planes.shape[1]
    padded, squares = np.zeros(64 * words, np.uint64), np.empty((_HALF, words), np.uint64)
    plane = 0
    for column in range(len(bits)):
        source, width = numbers[column], int(np.int64(bits[column]))
        for row in range(len(source)):
            padded[row] = source[row]
        for low in range(0, width, _HALF):
            for word in range(words):
                lower, upper = padded[64 * word :], padded[64 * word + _HALF :]
                for i in range(_HALF):
                    high = upper[i] >> np.uint64(low) << _SHIFT
                    squares[i, word] = lower[i] >> np.uint64(low) & _LOW_HALF | high
            _transpose(squares)
            for i in range(min(width - low, _HALF)):
                found, line = planes[plane], squares[i]
                for word in range(len(line)):
                    found[word] = line[word]
                plane += 1


@part(types.void(_GIVEN, types.int64, types.int64, _SQUARES))
def _gather(planes: Words, first: int, count: int, squares: Words) -> None:
    """Some planes, and zeros in place of the others."""
    for i in range(_HALF):
        line = squares[i]
        if i < count:
            given = planes[first + i]
            for word in range(len(line)):
                line[word] = given[word]
        else:
            for word in range(len(line)):
                line[word] = 0


@kernel(types.void(_GIVEN, _BITS, _SQUARES))
def _unpack(planes: Words, bits: Words, numbers: Words) -> None:
    """Adds bits to ``numbers`` that are not there yet; there must be as many planes as bits."""
    words = planes.shape[1]
    padded, squares = np.empty(64 * words, np.uint64), np.empty((_HALF, words), np.uint64)
    plane = 0
    for column in range(len(bits)):
        target, width = numbers[column], int(np.int64(bits[column]))
        for low in range(0, width, _HALF):
            count = min(width - low, _HALF)
            _gather(planes, plane, count, squares)
            _transpose(squares)
            plane += count
            for word in range(words):
                lower, upper = padded[64 * word :], padded[64 * word + _HALF :]
                for i in range(_HALF):
                    lower[i] = squares[i, word] & _LOW_HALF
                    upper[i] = squares[i, word] >> _SHIFT
            for row in range(len(target)):
                target[row] |= padded[row] << np.uint64(low)
