"""A small block as bytes in little time: it is read once or twice, then packed with others."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock

_SINGLES, _FLAGS = 1, 2
"""Bits of the first byte: the numbers are singles; flags are there, not all being zero."""
_INTEGERS: Final = ("step", "seq", "stop_ns")
_SCALARS: Final = ("base", "total", "total_gradient_norm")
_MATRICES: Final = ("value", "weight", "contribution", "gradient_norm")


def encode_plain(block: StepBlock) -> bytes:
    """The columns one after the other; the numbers as singles if that loses nothing."""
    numbers = np.concatenate([getattr(block, name).ravel() for name in (*_SCALARS, *_MATRICES)])
    singles = _as_singles(numbers)
    flagged = bool(block.flags.any())
    return b"".join(
        (
            bytes((_SINGLES * (singles is not None) | _FLAGS * flagged,)),
            *(getattr(block, name).astype("<i8", copy=False).tobytes() for name in _INTEGERS),
            block.duration.astype("<f8", copy=False).tobytes(),
            block.has_base.tobytes(),
            block.flags.astype("<i4", copy=False).tobytes() if flagged else b"",
            numbers.astype("<f8", copy=False).tobytes() if singles is None else singles.tobytes(),
        )
    )


def decode_plain(data: memoryview, *, terms: int, rows: int) -> dict[str, NDArray[Any]]:
    """All columns of the block that was encoded."""
    kind, cells = data[0], rows * terms
    flagged = cells if kind & _FLAGS else 0
    numbers = "<f4" if kind & _SINGLES else "<f8"
    layout = (
        *((name, "<i8", np.int64, rows) for name in _INTEGERS),
        ("duration", "<f8", np.float64, rows),
        ("has_base", "?", np.bool_, rows),
        ("flags", "<i4", np.int32, flagged),
        *((name, numbers, np.float64, rows) for name in _SCALARS),
        *((name, numbers, np.float64, cells) for name in _MATRICES),
    )
    columns: dict[str, NDArray[Any]] = {}
    start = 1
    for name, stored, native, count in layout:
        column = np.frombuffer(data, stored, count, start)
        columns[name] = column.astype(native, copy=False)
        start += column.nbytes
    if not flagged:
        columns["flags"] = np.zeros(cells, np.int32)
    return columns | {name: columns[name].reshape(rows, terms) for name in ("flags", *_MATRICES)}


def _as_singles(numbers: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """The numbers in half the space, or nothing if a single bit of any would be lost."""
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        singles = numbers.astype("<f4")
    same = singles.astype(np.float64).view(np.int64) == numbers.view(np.int64)
    return singles if same.all() else None
