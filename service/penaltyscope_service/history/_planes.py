"""The low bits of integers, bit by bit: first the lowest of all, then the next of all.

What is noise takes its bits and not one more, whatever their number, and is moved eight rows at
a time. Reference: Masui et al., "A compression scheme for radio data in high performance
computing", Astronomy and Computing 12 (2015): bitshuffle.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SWAPS: Final = tuple(
    (np.uint64(distance), np.uint64(mask))
    for distance, mask in (
        (7, 0x00AA00AA00AA00AA),
        (14, 0x0000CCCC0000CCCC),
        (28, 0x00000000F0F0F0F0),
    )
)
"""Which bits of a square of 8 x 8 change places: of pairs, of squares of 2 x 2, of 4 x 4."""


def pack_planes(numbers: NDArray[np.uint64], bits: NDArray[np.uint64]) -> bytes:
    """The lowest bits of each of ``[C]`` columns, of numbers ``[C, N]``."""
    columns, rows = numbers.shape
    octets, groups = -(-int(bits.max(initial=0)) // 8), -(-rows // 8)
    squares = np.zeros((columns, octets, 8 * groups), np.uint8)
    low = numbers.astype("<u8", copy=False).view(np.uint8).reshape(columns, rows, 8)
    squares[:, :, :rows] = low[:, :, :octets].transpose(0, 2, 1)
    planes = _transpose(squares).reshape(columns, octets, groups, 8).transpose(0, 1, 3, 2)
    return planes.reshape(columns, 8 * octets, groups)[_used(bits, octets)].tobytes()


def unpack_planes(
    data: bytes, bits: NDArray[np.uint64], rows: int, chosen: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """``[K, rows]``: what was packed, of the ``K`` columns that are chosen of ``[C]``."""
    groups, total = -(-rows // 8), int(bits.sum())
    packed = np.frombuffer(data, np.uint8, total * groups).reshape(total, groups)
    packed, bits = packed[np.repeat(chosen, bits.astype(np.intp))], bits[chosen]
    columns, octets = len(bits), -(-int(bits.max(initial=0)) // 8)
    planes = np.zeros((columns, 8 * octets, groups), np.uint8)
    planes[_used(bits, octets)] = packed
    squares = planes.reshape(columns, octets, 8, groups).transpose(0, 1, 3, 2)
    low = _transpose(np.ascontiguousarray(squares)).reshape(columns, octets, 8 * groups)
    numbers = np.zeros((columns, rows, 8), np.uint8)
    numbers[:, :, :octets] = low[:, :, :rows].transpose(0, 2, 1)
    return numbers.view("<u8")[:, :, 0].astype(np.uint64, copy=False)


def _used(bits: NDArray[np.uint64], octets: int) -> NDArray[np.bool_]:
    """``[C, 8 * octets]``: the planes that there are."""
    return np.arange(8 * octets) < bits[:, None]


def _transpose(octets: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each eight octets as a square of bits, its rows made columns."""
    squares = octets.reshape(-1).view("<u8")
    for distance, mask in _SWAPS:
        swapped = (squares ^ (squares >> distance)) & mask
        squares = squares ^ swapped ^ (swapped << distance)
    return squares.astype("<u8", copy=False).view(np.uint8)
