"""A small block as bytes in little time: it is read once or twice, then packed with others."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock

_SINGLES, _FLAGS, _CONSTANT, _PRODUCT, _ROUNDED = 1, 2, 4, 8, 16
"""Bits of the first byte: the numbers are singles; flags are there, not all being zero; there is
one row of weights, as doubles, for all evaluations; contributions are not there, being weight times
value; and that rounded to singles."""
_INTEGERS: Final = ("step", "seq", "stop_ns")
_SCALARS: Final = ("base", "total", "total_gradient_norm")
_MATRICES: Final = ("value", "weight", "contribution", "gradient_norm")
_STORED: Final = {
    kind: tuple(
        name
        for name in (*_SCALARS, *_MATRICES)
        if not (
            (name == "weight" and kind & _CONSTANT) or (name == "contribution" and kind & _PRODUCT)
        )
    )
    for kind in range(0, 2 * _ROUNDED, _CONSTANT)
}
"""By the bits that say what repeats, the numbers that are there for every evaluation."""
_FEW_ROWS: Final = 4
"""Looking for what repeats takes longer than writing it."""


def encode_plain(block: StepBlock) -> bytes:
    """The columns one after the other; the numbers as singles if that loses nothing."""
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        kind = _repetition(block) if len(block) >= _FEW_ROWS else 0
        numbers = np.concatenate([getattr(block, name).ravel() for name in _STORED[kind]])
        singles = _as_singles(numbers)
    flagged = np.count_nonzero(block.flags) > 0
    return b"".join(
        (
            bytes((kind | _SINGLES * (singles is not None) | _FLAGS * flagged,)),
            *(getattr(block, name).astype("<i8", copy=False).tobytes() for name in _INTEGERS),
            block.duration.astype("<f8", copy=False).tobytes(),
            block.has_base.tobytes(),
            block.flags.astype("<i4", copy=False).tobytes() if flagged else b"",
            block.weight[0].astype("<f8", copy=False).tobytes() if kind & _CONSTANT else b"",
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
        *((("weight", "<f8", np.float64, terms),) if kind & _CONSTANT else ()),
        *(
            (name, numbers, np.float64, rows if name in _SCALARS else cells)
            for name in _STORED[kind & ~(_SINGLES | _FLAGS)]
        ),
    )
    columns: dict[str, NDArray[Any]] = {}
    start = 1
    for name, stored, native, count in layout:
        column = np.frombuffer(data, stored, count, start)
        columns[name] = column.astype(native, copy=False)
        start += column.nbytes
    if not flagged:
        columns["flags"] = np.zeros(cells, np.int32)
    if kind & _CONSTANT:
        columns["weight"] = np.tile(columns["weight"], rows)
    if kind & _PRODUCT:
        with np.errstate(over="ignore", invalid="ignore"):
            product = columns["weight"] * columns["value"]
            columns["contribution"] = _rounded(product) if kind & _ROUNDED else product
    return columns | {name: columns[name].reshape(rows, terms) for name in ("flags", *_MATRICES)}


def _repetition(block: StepBlock) -> int:
    """What need not be stored. Compared as bytes: for arrays so small that takes the least time."""
    kind = _CONSTANT if block.weight[:1].tobytes() * len(block) == block.weight.tobytes() else 0
    product = block.weight * block.value
    contribution = block.contribution.tobytes()
    if product.tobytes() == contribution:
        kind |= _PRODUCT
    elif _rounded(product).tobytes() == contribution:
        kind |= _PRODUCT | _ROUNDED
    # The sign of a NaN that an operation makes differs between processors, and files can move.
    return kind & _CONSTANT if np.isnan(np.add.reduce(product, axis=None)) else kind


def _as_singles(numbers: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """The numbers in half the space, or nothing if a single bit of any would be lost."""
    singles = numbers.astype("<f4")
    return singles if singles.astype(np.float64).tobytes() == numbers.tobytes() else None


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return numbers.astype(np.float32).astype(np.float64)
