"""A column of integers as few bytes: counters and clocks move in nearly equal steps."""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

_HEAD: Final = struct.Struct("<qqB")
"""First number, least difference, bytes of each difference beyond the least."""
_WIDTHS: Final = (0, 1, 2, 4, 8)


def encode_integers(numbers: NDArray[np.int64]) -> bytes:
    """The numbers as a first one and differences, each no wider than it must be.

    Args:
        numbers: ``[N]``, ``N`` at least 1. Differences may overflow: they wrap, here and back.
    """
    differences = np.diff(numbers)
    least = int(differences.min()) if len(differences) else 0
    beyond = (differences - least).view(np.uint64)
    largest = int(beyond.max()) if len(beyond) else 0
    width = next(w for w in _WIDTHS if largest < 1 << 8 * w)
    body = beyond.astype(f"<u{width}").tobytes() if width else b""
    return _HEAD.pack(int(numbers[0]), least, width) + body


def decode_integers(data: memoryview, count: int) -> NDArray[np.int64]:
    """``[count]``: what was encoded."""
    first, least, width = _HEAD.unpack_from(data)
    numbers = np.full(count, least, np.int64)
    if width:
        body = np.frombuffer(data, f"<u{width}", count - 1, _HEAD.size)
        numbers[1:] += body.astype(np.uint64).view(np.int64)
    numbers[0] = first
    return np.cumsum(numbers)
