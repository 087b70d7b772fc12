"""Columns of unsigned integers in hardly more bits than their scatter has.

What numbers of a column have in common goes first: they are stored as distances from the least.
Of a distance the eight highest bits are seldom all equally likely, so that a Huffman code makes
them shorter; the bits below them are noise, which nothing makes shorter, and are packed as they
are. Reference: DEFLATE (RFC 1951), here without its search for repetitions.
"""

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.uint64]

_HEAD: Final = struct.Struct("<I")
"""Bytes of the Huffman code; 0 where the high bits are stored plainly."""
_COLUMN: Final = np.dtype([("least", "<u8"), ("low_bits", "u1")])
_HIGH_BITS: Final = 8
_RAW: Final = -zlib.MAX_WBITS
"""Tells zlib that no header or trailer surrounds the stream."""


def pack_integers(numbers: Integers) -> bytes:
    """``[C, N]``, both at least 1, column by column."""
    columns = np.zeros(len(numbers), _COLUMN)
    columns["least"] = numbers.min(axis=1)
    distances = numbers - columns["least"][:, None]
    columns["low_bits"] = [
        max(int(largest).bit_length() - _HIGH_BITS, 0) for largest in distances.max(axis=1)
    ]
    high = (distances >> columns["low_bits"][:, None].astype(np.uint64)).astype(np.uint8).tobytes()
    code = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9, zlib.Z_HUFFMAN_ONLY)
    coded = code.compress(high) + code.flush()
    short = len(coded) < len(high)
    return b"".join(
        (
            _HEAD.pack(len(coded) if short else 0),
            columns.tobytes(),
            coded if short else high,
            *(
                _pack_low(row, int(bits))
                for row, bits in zip(distances, columns["low_bits"], strict=True)
            ),
        )
    )


def unpack_integers(data: memoryview, columns: int, rows: int) -> Integers:
    """``[columns, rows]``: what was packed."""
    (coded,) = _HEAD.unpack_from(data)
    heads = np.frombuffer(data, _COLUMN, columns, _HEAD.size)
    start = _HEAD.size + heads.nbytes
    stop = start + (coded or columns * rows)
    high = zlib.decompress(data[start:stop], _RAW) if coded else data[start:stop]
    numbers = np.frombuffer(high, np.uint8).reshape(columns, rows).astype(np.uint64)
    numbers <<= heads["low_bits"][:, None].astype(np.uint64)
    for row, bits in zip(numbers, heads["low_bits"].tolist(), strict=True):
        start, stop = stop, stop + -(-bits * rows // 8)
        row |= _unpack_low(data[start:stop], bits, rows)
    numbers += heads["least"][:, None]
    return numbers


def _pack_low(numbers: Integers, bits: int) -> bytes:
    """The lowest bits of ``[N]`` numbers, one number after the other."""
    octets = -(-bits // 8)
    low = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - octets :]
    return np.packbits(np.unpackbits(low, axis=1)[:, 8 * octets - bits :]).tobytes()


def _unpack_low(data: memoryview, bits: int, rows: int) -> Integers:
    """``[rows]``: what was packed."""
    octets = -(-bits // 8)
    wide = np.zeros((rows, 8 * octets), np.uint8)
    packed = np.unpackbits(np.frombuffer(data, np.uint8), count=bits * rows)
    wide[:, 8 * octets - bits :] = packed.reshape(rows, bits)
    numbers = np.zeros((rows, 8), np.uint8)
    numbers[:, 8 - octets :] = np.packbits(wide, axis=1)
    return numbers.view(">u8")[:, 0].astype(np.uint64)
