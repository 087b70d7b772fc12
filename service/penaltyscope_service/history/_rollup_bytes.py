"""Rollups as few bytes, which are still read a thousand blocks at a time."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_service.history._rollup import ROLLUP
from penaltyscope_service.history._rollup_bytes_2 import decode_rollups_2
from penaltyscope_service.kernel import kernel, part

Rollups = NDArray[np.void]
Cells = NDArray[np.int64]
"""The same bits: three numbers, then their steps."""

_NUMBERS: Final = ("lowest", "highest", "strange")
_STEPS: Final = ("lowest_step", "highest_step", "strange_step")
_SINGLES, _FINITE, _BYTES, _SHORTS = 1, 4, 16, 32
"""Bits of the form: numbers are singles, none is strange, one byte or two tell each step."""
_THIRD: Final = 8
"""The bit that older forms do not have."""
_STEP: Final = 3
"""Where the first step of a cell is."""
_CELLS: Final = types.Array(types.int64, 3, "C", readonly=True)


def encode_rollups(rollups: Rollups) -> bytes:
    """The rollups of a block, ``[S, C]``: of each the first step, and how far the others are."""
    cells = np.ascontiguousarray(rollups).view(np.int64).reshape(*rollups.shape, 2 * _STEP)
    out = np.empty(1 + 8 + 8 * len(cells) + cells.nbytes, np.uint8)
    size = _encode(cells, 3 if cells[:, :, 2].any() else 2, out)
    return out[:size].tobytes()


def decode_rollups(blocks: Sequence[bytes], columns: int, wanted: Sequence[int]) -> Rollups:
    """Rollups of blocks of the same terms, one after the other.

    Args:
        blocks: what ``encode_rollups`` made of each.
        columns: how many there are.
        wanted: which of them to read.

    Returns:
        ``[S, wanted]`` of type ``ROLLUP``.
    """
    parts: list[Rollups] = []
    start = 0
    for (form, _), group in groupby(zip(map(itemgetter(0), blocks), map(len, blocks), strict=True)):
        stop = start + sum(1 for _ in group)
        decode = _decode if form & _THIRD else decode_rollups_2
        parts.append(decode(blocks[start:stop], columns, wanted))
        start = stop
    if len(parts) == 1:
        return parts[0]
    whole: Rollups = np.zeros((sum(map(len, parts)), len(wanted)), ROLLUP)
    np.concatenate([whole[:0], *parts], out=whole)
    return whole


def _decode(blocks: Sequence[bytes], columns: int, wanted: Sequence[int]) -> Rollups:
    """Of blocks of the same form and length."""
    form = blocks[0][0]
    one = _stored(form, 1, columns).itemsize
    more = _stored(form, 2, columns).itemsize - one
    stretches = 1 + (len(blocks[0]) - one) // more
    stored = np.frombuffer(b"".join(blocks), _stored(form, stretches, columns))
    rollups: Rollups = np.zeros((len(blocks), stretches, len(wanted)), ROLLUP)
    columns_wanted = list(wanted)
    for name in stored["rollups"].dtype.names or ():
        chosen = stored["rollups"][name][:, :, columns_wanted]
        if name in _NUMBERS:
            rollups[name] = chosen
        else:
            distance = chosen * stored["stride"][:, None, None]
            rollups[name] = stored["first"][:, :, None] + distance.view(np.int64)
    return rollups.reshape(-1, len(wanted))


@lru_cache
def _stored(form: int, stretches: int, columns: int) -> np.dtype[np.void]:
    """A block as it is stored."""
    number = "<f4" if form & _SINGLES else "<f8"
    step = "u1" if form & _BYTES else "<u2" if form & _SHORTS else "<u8"
    count = 2 if form & _FINITE else 3
    rollup = [*((name, number) for name in _NUMBERS[:count]), *((n, step) for n in _STEPS[:count])]
    return np.dtype(
        [
            ("form", "u1"),
            ("stride", "<u8"),
            ("first", "<i8", (stretches,)),
            ("rollups", rollup, (stretches, columns)),
        ]
    )


@part(types.uint64(types.uint64, types.uint64))
def _common_divisor(a: np.uint64, b: np.uint64) -> np.uint64:
    while b:
        a, b = b, a % b
    return a


@part(types.UniTuple(types.uint64, 2)(_CELLS, types.int64, types.Array(types.int64, 1, "C")))
def _measure(cells: Cells, count: int, first: Cells) -> tuple[np.uint64, np.uint64]:
    """How far steps are from the first of their row: a divisor of all distances, and the largest.

    Args:
        cells: ``[S, C, 6]``
        count: how many of the three steps there are.
        first: ``[S]``, to be filled.
    """
    stride = farthest = np.uint64(0)
    for row in range(len(cells)):
        least = cells[row, 0, _STEP]
        for column in range(cells.shape[1]):
            for i in range(_STEP, _STEP + count):
                least = min(least, cells[row, column, i])
        for column in range(cells.shape[1]):
            for i in range(_STEP, _STEP + count):
                distance = np.uint64(cells[row, column, i] - least)
                farthest = max(farthest, distance)
                stride = stride if stride == 1 else _common_divisor(distance, stride)
        first[row] = least
    return max(stride, np.uint64(1)), farthest


@part(types.boolean(_CELLS, types.int64))
def _are_singles(cells: Cells, count: int) -> bool:
    """Whether the numbers, of which there are so many in a cell, are singles."""
    lost = np.int64(0)
    for row in range(len(cells)):
        for column in range(cells.shape[1]):
            for i in range(count):
                bits = np.int64(cells[row, column, i])
                lost |= np.float64(np.float32(bits.view(np.float64))).view(np.int64) ^ bits
    return bool(lost == 0)


@part(types.uint64(types.uint64, types.int64, types.Array(types.uint8, 1, "C"), types.uint64))
def _put(bits: np.uint64, octets: int, out: NDArray[np.uint8], at: np.uint64) -> np.uint64:
    for octet in range(octets):
        out[at] = bits >> np.uint64(8 * octet) & np.uint64(0xFF)
        at += np.uint64(1)
    return at


@kernel(types.uint64(_CELLS, types.int64, types.Array(types.uint8, 1, "C")))
def _encode(cells: Cells, count: int, out: NDArray[np.uint8]) -> np.uint64:
    """Fills ``out`` as ``_stored`` tells, and returns the end.

    Args:
        cells: ``[S, C, 6]``
        count: how many of three numbers, and of three steps, are stored.
        out: as much as there may be.
    """
    first = np.empty(len(cells), np.int64)
    stride, farthest = _measure(cells, count, first)
    near = 1 if farthest // stride < 1 << 8 else 2 if farthest // stride < 1 << 16 else 8
    singles = _are_singles(cells, count)
    form = _THIRD | (_SINGLES if singles else 0) | (0 if count == _STEP else _FINITE)
    form |= _BYTES if near == 1 else _SHORTS if near == 2 else 0
    at = _put(np.uint64(form), 1, out, np.uint64(0))
    at = _put(stride, 8, out, at)
    for row in range(len(cells)):
        at = _put(np.uint64(first[row]), 8, out, at)
    for row in range(len(cells)):
        for cell in cells[row]:
            for i in range(count):
                if singles:
                    single = np.float32(np.int64(cell[i]).view(np.float64)).view(np.uint32)
                    at = _put(np.uint64(single), 4, out, at)
                else:
                    at = _put(np.uint64(cell[i]), 8, out, at)
            for i in range(_STEP, _STEP + count):
                at = _put(np.uint64(cell[i] - first[row]) // stride, near, out, at)
    return at
