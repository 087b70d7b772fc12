"""Varints of numbers that follow each other: most of their bytes stay as they are for long."""

import numpy as np
from numpy.typing import NDArray

_LOW_BITS = 14
"""Of a number, those that its first two bytes have: they are looked up at every step."""
_LOW_MASK = (1 << _LOW_BITS) - 1
_LOW = np.arange(1 << _LOW_BITS, dtype="<u2")
_LAST_TWO = _LOW & 0x7F | 0x80 | _LOW >> 7 << 8
_TABLES = (_LOW[: 1 << 7].astype("u1")[:, None], _LAST_TWO[:, None], _LAST_TWO[:, None] | 0x8000)
"""``[L, 1]``, the first bytes by the low bits: the only one, the only two, and two that others
follow."""

_LEAST = (0, *(1 << 7 * size for size in range(1, 9)), -(1 << 63))
"""The least number of each size, as int64; a negative one takes ten bytes."""
_LEAST_ARRAY = np.array(_LEAST)
_LIMITS = np.array([1 << 7 * size for size in range(1, 10)], np.uint64)


def stand_in(number: int) -> int:
    """The least number that takes as many bytes."""
    return _LEAST[((number | 1).bit_length() - 1) // 7 if number >= 0 else -1]


def stand_ins(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """That of each."""
    return _LEAST_ARRAY[np.searchsorted(_LIMITS, numbers.astype(np.uint64), side="right")]


class Digits:
    """Where numbers go in copies of a record."""

    def __init__(self, number: int, places: NDArray[np.uint8]) -> None:
        """Takes over the copies.

        Args:
            number: what is in each, of the size of all that come.
            places: ``[N, 2, B]`` its bytes, which are twice in each copy.
        """
        size = places.shape[2]
        self._table = _TABLES[min(size, 3) - 1]
        self._low = places[:, :, :2].view(self._table.dtype)[:, :, 0]
        self._high = places[:, :, 2:]
        self._shifts = 7 * np.arange(size - 2, dtype=np.uint64)
        self._more = np.array([0x80] * (size - 3) + [0], np.uint64)[: max(size - 2, 0)]
        self._there: int | None = _high_bits(number)
        """The high bits that all copies have; None where they have different ones."""

    def put(self, numbers: NDArray[np.int64] | range) -> None:
        """Puts ``[<=N]`` numbers in place; those of a range follow each other."""
        count = len(numbers)
        if isinstance(numbers, range):
            first = numbers[0] & _LOW_MASK
            if self._there == _high_bits(numbers[0]) and first + count <= 1 << _LOW_BITS:
                # As nearly always: they stand side by side in the table, and the rest is there.
                self._low[:count] = self._table[first : first + count]
                return
            numbers = np.array(numbers, np.int64)
        self._low[:count] = self._table.take(numbers & _LOW_MASK, axis=0)
        if not len(self._shifts):
            return
        high = numbers.astype(np.uint64) >> np.uint64(_LOW_BITS)
        distinct = {*high.tolist()}  # so few, most often, that Python is quicker
        if len(distinct) > 1:
            self._there = None
            self._high[:count] = self._bytes(high)[:, None]
        elif self._there not in distinct:
            self._there = distinct.pop()
            self._high[...] = self._bytes(high[:1])

    def _bytes(self, high: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """``[N, B - 2]``, what follows the first two bytes."""
        digits: NDArray[np.uint64] = high[:, None] >> self._shifts & np.uint64(0x7F)
        return digits | self._more


def _high_bits(number: int) -> int:
    return (number & 0xFFFF_FFFF_FFFF_FFFF) >> _LOW_BITS
