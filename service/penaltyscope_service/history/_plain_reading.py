"""Small blocks read again: many at once, as one."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

# What was compiled would not notice a change of these elsewhere; being in the file, they have none.
from penaltyscope_service.history._plain import CONSTANT, FLAGS, PRODUCT, ROUNDED, SINGLES
from penaltyscope_service.kernel import BYTES, kernel, part

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Octets = NDArray[np.uint8]

_INTEGERS: Final = ("step", "seq", "stop_ns")
_SCALARS: Final = ("duration", "base", "total", "total_gradient_norm")
_MATRICES: Final = ("value", "weight", "contribution", "gradient_norm")
"""The columns in the order in which they lie; after durations are ``has_base`` and ``flags``."""
_WEIGHT, _CONTRIBUTION = 1, 2
"""Their places among the matrices."""

_LINE: Final = types.Array(types.float64, 1, "C")
_TABLE: Final = types.Array(types.float64, 2, "A")


def decode_plain(parts: Sequence[tuple[memoryview, int]], *, terms: int) -> dict[str, NDArray[Any]]:
    """All columns of blocks that were encoded, one block after the other.

    Args:
        parts: of each block its data, and how many rows it has, at least 1.
        terms: how many all of them have.

    Raises:
        ValueError: if the data is not that of so many rows.
    """
    for data, rows in parts:
        size = _size(data[0], rows, terms)
        if size != len(data):
            raise ValueError(f"{rows} rows must be {size} bytes, got {len(data)}.")
    every = sum(rows for _, rows in parts)
    integers, scalars = np.empty((3, every), np.int64), np.empty((4, every))
    has_base = np.empty(every, np.bool_)
    arrays, flags = np.empty((4, terms, every)), np.empty((terms, every), np.int32)
    start = 0
    for data, rows in parts:
        # As long as the kernel expects, as was just seen; it fills the rows up to the next start.
        octets, stop = np.frombuffer(data, np.uint8), start + rows
        _take_block(octets, start, stop, integers, scalars, has_base, arrays, flags)
        start = stop
    return {
        **dict(zip(_INTEGERS, integers, strict=True)),
        **dict(zip(_SCALARS, scalars, strict=True)),
        **dict(zip(_MATRICES, arrays.transpose(0, 2, 1), strict=True)),
        "has_base": has_base,
        "flags": flags.T,
    }


@lru_cache(maxsize=1024)
def _size(kind: int, rows: int, terms: int) -> int:
    """Bytes of a block; 0 if there is none like that."""
    if rows < 1 or kind >= 2 * ROUNDED:
        return 0
    stored = len(_MATRICES) - bool(kind & CONSTANT) - bool(kind & PRODUCT)
    flags = 4 * rows * terms if kind & FLAGS else 0
    weights = 8 * terms if kind & CONSTANT else 0
    numbers = rows * (len(_SCALARS) - 1 + stored * terms)
    return 1 + rows * (4 * 8 + 1) + flags + weights + numbers * (4 if kind & SINGLES else 8)


@part(types.uint64(BYTES, types.uint64))
def _eight(data: Octets, at: np.uint64) -> np.uint64:
    bits = np.uint64(0)
    for octet in range(8):
        bits |= np.uint64(data[at + np.uint64(octet)]) << np.uint64(8 * octet)
    return bits


@part(types.uint32(BYTES, types.uint64))
def _four(data: Octets, at: np.uint64) -> np.uint32:
    bits = np.uint32(0)
    for octet in range(4):
        bits |= np.uint32(data[at + np.uint64(octet)]) << np.uint32(8 * octet)
    return bits


@part(types.uint64(BYTES, types.uint64, types.Array(types.int64, 1, "C")))
def _take_integers(data: Octets, at: np.uint64, line: Integers) -> np.uint64:
    """Integers of eight octets; returns where they end."""
    for i in range(len(line)):
        line[i] = _eight(data, at)
        at += np.uint64(8)
    return at


@part(types.uint64(BYTES, types.uint64, types.boolean, _LINE))
def _take_numbers(data: Octets, at: np.uint64, singles: bool, line: Numbers) -> np.uint64:
    """The same of singles or doubles."""
    if singles:
        for i in range(len(line)):
            line[i] = np.uint32(_four(data, at)).view(np.float32)
            at += np.uint64(4)
        return at
    for i in range(len(line)):
        line[i] = np.uint64(_eight(data, at)).view(np.float64)
        at += np.uint64(8)
    return at


@part(types.uint64(BYTES, types.uint64, types.boolean, types.Array(types.int32, 2, "A")))
def _take_flags(data: Octets, at: np.uint64, flagged: bool, flags: NDArray[np.int32]) -> np.uint64:
    """The same of flags, of which there may be none."""
    terms = np.uint64(len(flags))
    for term in range(flags.shape[0]):
        line, place = flags[term], at + np.uint64(4 * term)
        if not flagged:
            line[:] = 0
            continue
        for i in range(len(line)):
            line[i] = np.int32(_four(data, place))
            place += np.uint64(4) * terms
    return at + np.uint64(4 * flags.size) if flagged else at


@part(types.uint64(BYTES, types.uint64, types.boolean, _LINE, _TABLE))
def _take_rows(
    data: Octets, at: np.uint64, singles: bool, rows: Numbers, table: Numbers
) -> np.uint64:
    """The same of rows, which become columns; they go through ``rows``, as many numbers."""
    at = _take_numbers(data, at, singles, rows)
    terms = len(table)
    for term in range(terms):
        line, place = table[term], term
        for i in range(len(line)):
            line[i] = rows[place]
            place += terms
    return at


@part(types.uint64(BYTES, types.uint64, _TABLE))
def _repeat(data: Octets, at: np.uint64, table: Numbers) -> np.uint64:
    """Takes one row of doubles, which is that of all."""
    for term in range(table.shape[0]):
        table[term] = np.uint64(_eight(data, at)).view(np.float64)
        at += np.uint64(8)
    return at


@part(types.void(_TABLE, _TABLE, types.boolean, _TABLE))
def _multiply(weight: Numbers, value: Numbers, rounded: bool, product: Numbers) -> None:
    for term in range(len(product)):
        factors, numbers, line = weight[term], value[term], product[term]
        for i in range(len(line)):
            line[i] = factors[i] * numbers[i]
        if rounded:
            for i in range(len(line)):
                line[i] = np.float64(np.float32(line[i]))


@kernel(
    types.void(
        *(BYTES, types.int64, types.int64, types.int64[:, ::1], types.float64[:, ::1]),
        *(types.boolean[::1], types.float64[:, :, ::1], types.int32[:, ::1]),
    )
)
def _take_block(
    data: Octets,
    start: int,
    stop: int,
    integers: Integers,
    scalars: Numbers,
    has_base: NDArray[np.bool_],
    arrays: Numbers,
    flags: NDArray[np.int32],
) -> None:
    """Fills the rows from ``start`` to ``stop``.

    Args:
        data: as long as so many rows need.
        start: the first row.
        stop: the row after the last.
        integers: ``[3, N]``
        scalars: ``[4, N]``, durations first.
        has_base: ``[N]``
        arrays: ``[4, T, N]``
        flags: ``[T, N]``
    """
    kind, at = int(data[0]), np.uint64(1)
    for i in range(len(integers)):
        at = _take_integers(data, at, integers[i, start:stop])
    at = _take_numbers(data, at, False, scalars[0, start:stop])
    for row in range(start, stop):
        has_base[row] = data[at] != 0
        at += np.uint64(1)
    at = _take_flags(data, at, kind & FLAGS != 0, flags[:, start:stop])
    if kind & CONSTANT:
        at = _repeat(data, at, arrays[_WEIGHT, :, start:stop])
    singles, rows = kind & SINGLES != 0, np.empty((stop - start) * arrays.shape[1])
    for i in range(1, len(scalars)):
        at = _take_numbers(data, at, singles, scalars[i, start:stop])
    for i in range(len(arrays)):
        table = arrays[i, :, start:stop]
        if i == _CONTRIBUTION and kind & PRODUCT:
            value, weight = arrays[0, :, start:stop], arrays[_WEIGHT, :, start:stop]
            _multiply(weight, value, kind & ROUNDED != 0, table)
        elif not (i == _WEIGHT and kind & CONSTANT):
            at = _take_rows(data, at, singles, rows, table)
