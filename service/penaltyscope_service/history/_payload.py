"""A block of steps as the bytes that are stored."""

from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.history._packed import decode_packed, encode_packed
from penaltyscope_service.history._plain import decode_plain, encode_plain

_PLAIN, _PACKED = 1, 2
"""The first byte."""


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
        ValueError: if the payload is of an unknown kind.
    """
    kind, data = payload[0], memoryview(payload)[1:]
    if kind == _PLAIN:
        return decode_plain(data, terms=terms, rows=rows)
    if kind == _PACKED:
        return decode_packed(data, names, terms=terms, rows=rows)
    raise ValueError(f"the payload's kind must be {_PLAIN} or {_PACKED}, got {kind}.")


def decode_block(
    payload: bytes, *, pipeline: str, incarnation: str, terms: tuple[str, ...], rows: int
) -> StepBlock:
    """The block that was encoded."""
    columns = decode_columns(payload, COLUMNS, terms=len(terms), rows=rows)
    return StepBlock(pipeline=pipeline, incarnation=incarnation, terms=terms, **columns)
