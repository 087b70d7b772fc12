"""A column of doubles as few bytes without losing a bit: not of a NaN, not the sign of a zero."""

from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._bits import pack_integers, unpack_integers
from penaltyscope_service.history._integer import decode_integers

Numbers = NDArray[np.float64]

_DOUBLE, _SINGLE, _CONSTANT, _PRODUCT, _SINGLE_PRODUCT, _NANOSECONDS = range(6)
_PACKED, _DURATIONS, _SUM = range(6, 9)
"""The first byte: how the rest is to be read."""

_LARGEST_EXACT: Final = 2.0**53
_SIGN: Final = np.uint32(1 << 31)
_MIDDLE: Final = np.uint64(1 << 32)
"""Makes every difference of two singles' places a positive number."""


def encode_numbers(numbers: Numbers, product: Numbers | None = None) -> bytes:
    """The numbers as the shortest of a row repeated, a product, singles or doubles.

    Args:
        numbers: ``[N, T]``, ``N`` at least 1.
        product: ``[N, T]``, what the numbers may be equal to.
    """
    bits = numbers.view(np.int64)
    if (bits == bits[0]).all():
        row: bytes = numbers[0].astype("<f8").tobytes()
        return bytes((_CONSTANT,)) + row
    # The sign of a NaN that an operation makes differs between processors, and files can move.
    if product is not None and np.isfinite(product).all():
        if _same(bits, product):
            return bytes((_PRODUCT,))
        if _same(bits, _rounded(product)):
            return bytes((_SINGLE_PRODUCT,))
    singles = as_singles(numbers.T)
    if singles is not None:
        return bytes((_PACKED,)) + pack_integers(_ascending(singles.view("<u4")))
    return bytes((_DOUBLE,)) + numbers.T.astype("<f8").tobytes()


def encode_sum(numbers: Numbers, parts: Numbers) -> bytes:
    """Numbers ``[N]`` that are, but for rounding, sums over the rows of ``[N, T]``."""
    singles, near = as_singles(numbers[None]), _sum(parts)
    if singles is None or not (np.isfinite(near).all() and np.isfinite(numbers).all()):
        return encode_numbers(numbers[:, None])
    distance = _ascending(singles.view("<u4")) - _ascending(near[None].view("<u4")) + _MIDDLE
    return bytes((_SUM,)) + pack_integers(distance)


def decode_sum(data: memoryview, parts: Numbers) -> Numbers:
    """``[N]``: what was encoded; ``parts`` as they were then."""
    if data[0] != _SUM:
        return decode_numbers(data, len(parts), 1)[:, 0]
    distance = unpack_integers(data[1:], 1, len(parts)) - _MIDDLE
    bits = _descending(_ascending(_sum(parts)[None].view("<u4")) + distance)
    numbers: Numbers = bits.view("<f4")[0].astype(np.float64)
    return numbers


def as_singles(numbers: Numbers) -> NDArray[np.float32] | None:
    """The numbers in half the space, or nothing if a single bit of any would be lost."""
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        singles = numbers.astype("<f4")
    same = singles.astype(np.float64).view(np.int64) == numbers.view(np.int64)
    return singles if same.all() else None


def encode_seconds(seconds: Numbers) -> bytes:
    """Durations ``[N]``, in most cases a whole number of nanoseconds that was divided by 1e9."""
    with np.errstate(over="ignore"):
        scaled = np.rint(seconds * 1e9)
    if (np.abs(scaled) < _LARGEST_EXACT).all():
        nanoseconds = scaled.astype(np.int64)
        if _same(seconds.view(np.int64), nanoseconds / 1e9):
            return bytes((_DURATIONS,)) + pack_integers(nanoseconds.view(np.uint64)[None])
    return encode_numbers(seconds[:, None])


def decode_numbers(
    data: memoryview, rows: int, columns: int, product: Numbers | None = None
) -> Numbers:
    """``[rows, columns]``: what was encoded; ``product`` as it was then."""
    kind, body = data[0], data[1:]
    if kind == _CONSTANT:
        return np.tile(np.frombuffer(body, "<f8", columns), (rows, 1))
    if kind == _PACKED:
        singles = _descending(unpack_integers(body, columns, rows)).view("<f4")
        return np.ascontiguousarray(singles.T, np.float64)
    if kind == _DURATIONS:
        return (unpack_integers(body, 1, rows).view(np.int64) / 1e9).T
    if kind == _NANOSECONDS:
        return (decode_integers(body, rows) / 1e9)[:, None]
    if kind in (_PRODUCT, _SINGLE_PRODUCT):
        if product is None:
            raise ValueError("product must be given for a column that was stored as one.")
        return product if kind == _PRODUCT else _rounded(product)
    stored = np.frombuffer(body, "<f4" if kind == _SINGLE else "<f8", rows * columns)
    return np.ascontiguousarray(stored.reshape(columns, rows).T, np.float64)


def _ascending(bits: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Singles' bits as integers that are in the order of the numbers: close to each other."""
    negative = bits >> 31 != 0
    return np.where(negative, ~bits, bits | _SIGN).astype(np.uint64)


def _descending(integers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The bits again."""
    bits = integers.astype("<u4")
    return np.where(bits >> 31 != 0, bits & ~_SIGN, ~bits)


def _sum(parts: Numbers) -> NDArray[np.float32]:
    """The sums as singles, added in one order everywhere: a file can move to another machine."""
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not finite, and not used
        sums: NDArray[np.float32] = reduce(np.add, parts.T).astype("<f4")
    return sums


def _rounded(numbers: Numbers) -> Numbers:
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        return numbers.astype(np.float32).astype(np.float64)


def _same(bits: NDArray[np.int64], other: Numbers) -> bool:
    return bool((bits == np.ascontiguousarray(other).view(np.int64)).all())
