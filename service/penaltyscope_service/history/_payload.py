"""A block of steps as the bytes that are stored."""

from collections.abc import Collection, Sequence
from typing import Any

from numpy.typing import NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._packed import decode_packed, encode_packed
from penaltyscope_service.history._packed_2 import decode_packed_2
from penaltyscope_service.history._plain import encode_plain
from penaltyscope_service.history._plain_reading import decode_plain

_PLAIN, _PACKED_2, _PACKED = 1, 2, 3
"""The first byte. A new way to store blocks gets a new one, and the old ones are read for ever."""


def encode_block(block: StepBlock, *, packed: bool) -> bytes:
    """The block's columns, quickly or as few bytes; its names are kept beside it."""
    if packed:
        return bytes((_PACKED,)) + encode_packed(block)
    return bytes((_PLAIN,)) + encode_plain(block)


def decode_columns(
    payload: bytes, names: Collection[str], *, terms: int, rows: int
) -> dict[str, NDArray[Any]]:
    """At least the named columns, to the last bit as they were encoded.

    Raises:
        ValueError: if the payload is of an unknown kind, or not that of so many rows.
    """
    if rows < 1:
        raise ValueError(f"rows must be positive, got {rows}.")
    kind, data = payload[0], memoryview(payload)[1:]
    if kind == _PLAIN:
        return decode_plain([(data, rows)], terms=terms)
    if kind == _PACKED:
        return decode_packed(data, names, terms=terms, rows=rows)
    if kind == _PACKED_2:
        return decode_packed_2(data, names, terms=terms, rows=rows)
    raise ValueError(f"the payload's kind must be from {_PLAIN} to {_PACKED}, got {kind}.")


def decode_block(
    payload: bytes, *, pipeline: str, incarnation: str, terms: tuple[str, ...], rows: int
) -> StepBlock:
    """The block that was encoded."""
    columns = decode_columns(payload, COLUMNS, terms=len(terms), rows=rows)
    return StepBlock(pipeline=pipeline, incarnation=incarnation, terms=terms, **columns)


def decode_plain_blocks(
    payloads: Sequence[tuple[bytes, int]],
    *,
    pipeline: str,
    incarnation: str,
    terms: tuple[str, ...],
) -> StepBlock:
    """Blocks that were encoded quickly, each with its number of rows, as one.

    Raises:
        ValueError: if one of them was not, or has another number of rows.
    """
    if any(payload[0] != _PLAIN for payload, _ in payloads):
        raise ValueError(f"the kind of all payloads must be {_PLAIN}.")
    parts = [(memoryview(payload)[1:], rows) for payload, rows in payloads]
    columns = decode_plain(parts, terms=len(terms))
    return StepBlock(pipeline=pipeline, incarnation=incarnation, terms=terms, **columns)
