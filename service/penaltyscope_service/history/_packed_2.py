"""Large blocks as versions 1 and 2 of the file have them: only read, never written any more.

Each column is bytes of its own, whose first says what follows: a row repeated, singles, doubles,
whole nanoseconds, what a product or a sum of other columns is, or integers packed by the bit: their
least, their distances from it, the eight highest bits of these as a Huffman code, the others plain.
"""

import struct
import zlib
from collections.abc import Collection
from functools import reduce
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import COLUMNS

Column = NDArray[Any]
Numbers = NDArray[np.float64]

_LENGTHS: Final = struct.Struct(f"<{len(COLUMNS)}I")
_INTEGERS: Final = struct.Struct("<qqB")
"""First number, least difference, bytes of each difference beyond the least."""
_BY_THE_BIT: Final = 255
"""In place of the bytes of each difference."""
_PACKED: Final = struct.Struct("<I")
"""Bytes of the Huffman code; 0 where the high bits are stored plainly."""
_HEADS: Final = np.dtype([("least", "<u8"), ("low_bits", "u1")])
_RAW: Final = -zlib.MAX_WBITS
"""Tells zlib that no header or trailer surrounds the stream."""
_DOUBLE, _SINGLE, _CONSTANT, _PRODUCT, _SINGLE_PRODUCT, _NANOSECONDS = range(6)
_PACKED_SINGLES, _PACKED_NANOSECONDS, _SUM = range(6, 9)
_SIGN: Final = np.uint32(1 << 31)
_MIDDLE: Final = np.uint64(1 << 32)


def decode_packed_2(
    data: memoryview, names: Collection[str], *, terms: int, rows: int
) -> dict[str, Column]:
    """Some of the columns of the block; the others are not looked at."""
    stops = list(accumulate(_LENGTHS.unpack_from(data), initial=_LENGTHS.size))
    parts = {
        name: data[start:stop] for name, start, stop in zip(COLUMNS, stops, stops[1:], strict=False)
    }
    return {name: _column(parts, name, terms, rows) for name in names}


def _column(parts: dict[str, memoryview], name: str, terms: int, rows: int) -> Column:
    data = parts[name]
    match name:
        case "step" | "seq" | "stop_ns":
            return _integers(data, rows)
        case "has_base":
            return _integers(data, rows).astype(np.bool_)
        case "flags":
            return _integers(data, rows * terms).astype(np.int32).reshape(rows, terms)
        case "total":
            return _total(data, _column(parts, "contribution", terms, rows))
        case "contribution":
            value, weight = (_column(parts, of, terms, rows) for of in ("value", "weight"))
            with np.errstate(over="ignore", invalid="ignore"):
                return _numbers(data, rows, terms, weight * value)
        case "value" | "weight" | "gradient_norm":
            return _numbers(data, rows, terms)
    return _numbers(data, rows, 1)[:, 0]


def _integers(data: memoryview, count: int) -> NDArray[np.int64]:
    first, least, width = _INTEGERS.unpack_from(data)
    numbers = np.full(count, least, np.int64)
    if width == _BY_THE_BIT:
        numbers[1:] += _unpack(data[_INTEGERS.size :], 1, count - 1)[0].view(np.int64)
    elif width:
        body = np.frombuffer(data, f"<u{width}", count - 1, _INTEGERS.size)
        numbers[1:] += body.astype(np.uint64).view(np.int64)
    numbers[0] = first
    return np.cumsum(numbers)


def _numbers(data: memoryview, rows: int, columns: int, product: Numbers | None = None) -> Numbers:
    """``[rows, columns]``; ``product`` as it was when they were stored."""
    kind, body = data[0], data[1:]
    if kind == _CONSTANT:
        return np.tile(np.frombuffer(body, "<f8", columns), (rows, 1))
    if kind == _PACKED_SINGLES:
        singles = _descending(_unpack(body, columns, rows)).view("<f4")
        return np.ascontiguousarray(singles.T, np.float64)
    if kind == _PACKED_NANOSECONDS:
        return (_unpack(body, 1, rows).view(np.int64) / 1e9).T
    if kind == _NANOSECONDS:
        return (_integers(body, rows) / 1e9)[:, None]
    if product is not None and kind in (_PRODUCT, _SINGLE_PRODUCT):
        return product if kind == _PRODUCT else _rounded(product)
    stored = np.frombuffer(body, "<f4" if kind == _SINGLE else "<f8", rows * columns)
    return np.ascontiguousarray(stored.reshape(columns, rows).T, np.float64)


def _total(data: memoryview, parts: Numbers) -> Numbers:
    """``[N]``: as far from the sums over the rows of ``[N, T]`` as they are."""
    if data[0] != _SUM:
        return _numbers(data, len(parts), 1)[:, 0]
    distance = _unpack(data[1:], 1, len(parts)) - _MIDDLE
    with np.errstate(over="ignore", invalid="ignore"):
        sums = reduce(np.add, parts.T).astype("<f4")
    bits = _descending(_ascending(sums[None].view("<u4")) + distance)
    numbers: Numbers = bits.view("<f4")[0].astype(np.float64)
    return numbers


def _rounded(numbers: Numbers) -> Numbers:
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32).astype(np.float64)


def _ascending(bits: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Singles' bits as integers that are in the order of the numbers."""
    return np.where(bits >> 31 != 0, ~bits, bits | _SIGN).astype(np.uint64)


def _descending(integers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The bits again."""
    bits = integers.astype("<u4")
    return np.where(bits >> 31 != 0, bits & ~_SIGN, ~bits)


def _unpack(data: memoryview, columns: int, rows: int) -> NDArray[np.uint64]:
    """``[columns, rows]``: integers that were packed by the bit."""
    (coded,) = _PACKED.unpack_from(data)
    heads = np.frombuffer(data, _HEADS, columns, _PACKED.size)
    start = _PACKED.size + heads.nbytes
    stop = start + (coded or columns * rows)
    high = _decompress(data[start:stop]) if coded else data[start:stop]
    numbers = np.frombuffer(high, np.uint8).reshape(columns, rows).astype(np.uint64)
    numbers <<= heads["low_bits"][:, None].astype(np.uint64)
    for row, bits in zip(numbers, heads["low_bits"].tolist(), strict=True):
        start, stop = stop, stop + -(-bits * rows // 8)
        row |= _unpack_low(data[start:stop], bits, rows)
    numbers += heads["least"][:, None]
    return numbers


def _decompress(data: memoryview) -> bytes:
    try:
        return zlib.decompress(data, _RAW)
    except zlib.error as error:
        raise ValueError(f"high bits must be a Huffman code: {error}.") from error


def _unpack_low(data: memoryview, bits: int, rows: int) -> NDArray[np.uint64]:
    octets = -(-bits // 8)
    wide = np.zeros((rows, 8 * octets), np.uint8)
    packed = np.unpackbits(np.frombuffer(data, np.uint8), count=bits * rows)
    wide[:, 8 * octets - bits :] = packed.reshape(rows, bits)
    numbers = np.zeros((rows, 8), np.uint8)
    numbers[:, 8 - octets :] = np.packbits(wide, axis=1)
    return numbers.view(">u8")[:, 0].astype(np.uint64)
