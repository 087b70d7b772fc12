"""A column of integers as few bytes: counters and clocks move in nearly equal steps."""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._bits import pack_integers, unpack_integers

_HEAD: Final = struct.Struct("<qqB")
"""First number, least difference, bytes of each difference beyond the least."""
_PACKED: Final = 255
"""In place of the bytes of each difference: they are packed by the bit."""


def encode_integers(numbers: NDArray[np.int64]) -> bytes:
    """The numbers as a first one and differences, each no wider than it must be.

    Args:
        numbers: ``[N]``, ``N`` at least 1. Differences may overflow: they wrap, here and back.
    """
    differences = np.diff(numbers)
    least = int(differences.min()) if len(differences) else 0
    if (differences == least).all():
        return _HEAD.pack(int(numbers[0]), least, 0)
    beyond = (differences - least).view(np.uint64)
    return _HEAD.pack(int(numbers[0]), least, _PACKED) + pack_integers(beyond[None])


def decode_integers(data: memoryview, count: int) -> NDArray[np.int64]:
    """``[count]``: what was encoded."""
    first, least, width = _HEAD.unpack_from(data)
    numbers = np.full(count, least, np.int64)
    if width == _PACKED:
        numbers[1:] += unpack_integers(data[_HEAD.size :], 1, count - 1)[0].view(np.int64)
    elif width:
        body = np.frombuffer(data, f"<u{width}", count - 1, _HEAD.size)
        numbers[1:] += body.astype(np.uint64).view(np.int64)
    numbers[0] = first
    return np.cumsum(numbers)
