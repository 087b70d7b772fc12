"""A large block as few bytes, one column after the other, so that a chart reads what it draws."""

import struct
from collections.abc import Collection
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._integer import decode_integers, encode_integers
from penaltyscope_service.history._number import (
    decode_numbers,
    decode_sum,
    encode_numbers,
    encode_seconds,
    encode_sum,
)

Column = NDArray[Any]

_LENGTHS: Final = struct.Struct(f"<{len(COLUMNS)}I")
_INTEGERS: Final = ("step", "seq", "stop_ns")
_SCALARS: Final = ("duration", "base", "total_gradient_norm")


def encode_packed(block: StepBlock) -> bytes:
    """The block's columns, each in its shortest form."""
    columns = [_encode_column(block, name) for name in COLUMNS]
    return _LENGTHS.pack(*map(len, columns)) + b"".join(columns)


def decode_packed(
    data: memoryview, names: Collection[str], *, terms: int, rows: int
) -> dict[str, Column]:
    """Some of the columns of the block that was encoded; the others are not looked at."""
    stops = list(accumulate(_LENGTHS.unpack_from(data), initial=_LENGTHS.size))
    parts = {
        name: data[start:stop] for name, start, stop in zip(COLUMNS, stops, stops[1:], strict=False)
    }
    return {name: _decode_column(parts, name, terms, rows) for name in names}


def _encode_column(block: StepBlock, name: str) -> bytes:
    column: Column = getattr(block, name)
    if name == "duration":
        return encode_seconds(column)
    if name == "total":
        return encode_sum(column, block.contribution)
    if name == "contribution":
        with np.errstate(over="ignore", invalid="ignore"):
            return encode_numbers(column, block.weight * block.value)
    if column.dtype == np.float64:
        return encode_numbers(column.reshape(len(block), -1))
    return encode_integers(column.ravel().astype(np.int64))


def _decode_column(parts: dict[str, memoryview], name: str, terms: int, rows: int) -> Column:
    data = parts[name]
    if name in _INTEGERS:
        return decode_integers(data, rows)
    if name == "has_base":
        return decode_integers(data, rows).astype(np.bool_)
    if name == "flags":
        return decode_integers(data, rows * terms).astype(np.int32).reshape(rows, terms)
    if name == "total":
        return decode_sum(data, _decode_column(parts, "contribution", terms, rows))
    if name in _SCALARS:
        return decode_numbers(data, rows, 1)[:, 0]
    if name == "contribution":
        value = _decode_column(parts, "value", terms, rows)
        weight = _decode_column(parts, "weight", terms, rows)
        with np.errstate(over="ignore", invalid="ignore"):
            return decode_numbers(data, rows, terms, weight * value)
    return decode_numbers(data, rows, terms)
