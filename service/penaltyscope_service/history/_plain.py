"""A small block as bytes in little time: it is read once or twice, then packed with others."""

from typing import Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from penaltyscope_events import COLUMNS, StepBlock
from penaltyscope_service.kernel import kernel, part

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]
Octets = NDArray[np.uint8]

SINGLES, FLAGS, CONSTANT, PRODUCT, ROUNDED = 1, 2, 4, 8, 16
"""Bits of the first byte: the numbers are singles; flags are there, not all being zero; there is
one row of weights, as doubles, for all evaluations; contributions are not there, being weight times
value; and that rounded to singles."""
_FEW_ROWS: Final = 4
"""Looking for what repeats takes longer than writing it."""

_INTEGER_COLUMN: Final = types.Array(types.int64, 1, "A", readonly=True)
_COLUMN: Final = types.Array(types.float64, 1, "A", readonly=True)
_MATRIX: Final = types.Array(types.float64, 2, "A", readonly=True)
_FLAGS_MATRIX: Final = types.Array(types.int32, 2, "A", readonly=True)
_OUT: Final = types.Array(types.uint8, 1, "C")


def encode_plain(block: StepBlock) -> memoryview:
    """The columns one after the other; the numbers as singles if that loses nothing.

    Raises:
        ValueError: if they are not as long as each other.
    """
    rows, terms = block.value.shape
    out = np.empty(1 + rows * (8 * 7 + 1) + (rows * (4 + 4 * 8) + 8) * terms, np.uint8)
    size = _put_block(
        block.step,
        block.seq,
        block.stop_ns,
        block.duration,
        block.has_base,
        block.flags,
        block.base,
        block.total,
        block.total_gradient_norm,
        block.value,
        block.weight,
        block.contribution,
        block.gradient_norm,
        out,
    )
    if not size:
        shapes = {name: getattr(block, name).shape for name in COLUMNS}
        raise ValueError(f"columns must be as long as each other, got {shapes}.")
    return out.data[:size]


@part(types.uint64(_INTEGER_COLUMN, _OUT, types.uint64))
def _put_integers(column: Integers, out: Octets, at: np.uint64) -> np.uint64:
    """Octet by octet: the compiler makes one store of them wherever the integer lies."""
    for row in range(len(column)):
        for octet in range(8):
            out[at + np.uint64(octet)] = column[row] >> (8 * octet) & 0xFF
        at += np.uint64(8)
    return at


@part(types.uint64(_MATRIX, _OUT, types.uint64))
def _put_doubles(numbers: Numbers, out: Octets, at: np.uint64) -> np.uint64:
    for row in range(numbers.shape[0]):
        for column in range(numbers.shape[1]):
            bits = np.float64(numbers[row, column]).view(np.int64)
            for octet in range(8):
                out[at + np.uint64(octet)] = bits >> (8 * octet) & 0xFF
            at += np.uint64(8)
    return at


@part(types.uint64(_MATRIX, _OUT, types.uint64))
def _put_singles(numbers: Numbers, out: Octets, at: np.uint64) -> np.uint64:
    """0 if a bit of one is lost."""
    lost = np.int64(0)
    for row in range(numbers.shape[0]):
        for column in range(numbers.shape[1]):
            number = np.float64(numbers[row, column])
            single = np.float32(number)
            lost |= np.float64(single).view(np.int64) ^ number.view(np.int64)
            bits = single.view(np.int32)
            for octet in range(4):
                out[at + np.uint64(octet)] = bits >> (8 * octet) & 0xFF
            at += np.uint64(4)
    return np.uint64(0) if lost else at


@part(types.int64(_MATRIX, _MATRIX, _MATRIX))
def _repetition(value: Numbers, weight: Numbers, contribution: Numbers) -> int:
    """What need not be stored."""
    finite = True
    varied = exact = rounded = np.int64(0)
    for row in range(value.shape[0]):
        for term in range(value.shape[1]):
            factor = np.float64(weight[row, term])
            product = np.float64(factor * value[row, term])
            # The sign of a NaN that an operation makes differs between processors.
            finite &= product == product
            sent = np.float64(contribution[row, term]).view(np.int64)
            exact |= product.view(np.int64) ^ sent
            rounded |= np.float64(np.float32(product)).view(np.int64) ^ sent
            varied |= factor.view(np.int64) ^ np.float64(weight[0, term]).view(np.int64)
    kind = 0 if varied else CONSTANT
    if finite and not (exact and rounded):
        kind |= PRODUCT | ROUNDED if exact else PRODUCT
    return kind


@part(types.uint64(_FLAGS_MATRIX, _OUT, types.uint64))
def _put_flags(flags: NDArray[np.int32], out: Octets, at: np.uint64) -> np.uint64:
    """If there are any."""
    together = 0
    for row in range(flags.shape[0]):
        for term in range(flags.shape[1]):
            together |= flags[row, term]
    if not together:
        return at
    for row in range(flags.shape[0]):
        for term in range(flags.shape[1]):
            for octet in range(4):
                out[at + np.uint64(octet)] = flags[row, term] >> (8 * octet) & 0xFF
            at += np.uint64(4)
    return at


@part(types.uint64(types.UniTuple(_MATRIX, 7), types.int64, _OUT, types.uint64))
def _put_numbers(numbers: tuple[Numbers, ...], kind: int, out: Octets, at: np.uint64) -> np.uint64:
    """Those that there are; and the first octet of all."""
    weight = 4 if kind & CONSTANT else -1
    contribution = 5 if kind & PRODUCT else -1
    end = at
    for i in range(len(numbers)):
        if end and i not in (weight, contribution):
            end = _put_singles(numbers[i], out, end)
    if end:
        out[0] = kind | SINGLES
        return end
    for i in range(len(numbers)):
        if i not in (weight, contribution):
            at = _put_doubles(numbers[i], out, at)
    out[0] = kind
    return at


@kernel(
    types.uint64(
        *(_INTEGER_COLUMN,) * 3,
        _COLUMN,
        types.Array(types.boolean, 1, "A", readonly=True),
        _FLAGS_MATRIX,
        *(_COLUMN,) * 3,
        *(_MATRIX,) * 4,
        _OUT,
    )
)
def _put_block(
    step: Integers,
    seq: Integers,
    stop_ns: Integers,
    duration: Numbers,
    has_base: NDArray[np.bool_],
    flags: NDArray[np.int32],
    base: Numbers,
    total: Numbers,
    total_gradient_norm: Numbers,
    value: Numbers,
    weight: Numbers,
    contribution: Numbers,
    gradient_norm: Numbers,
    out: Octets,
) -> np.uint64:
    """Returns where it ends; 0 if there may not be room."""
    rows = len(value)
    if not (
        len(step) == len(seq) == len(stop_ns) == len(duration) == len(has_base) == rows
        and len(base) == len(total) == len(total_gradient_norm) == rows
        and flags.shape == weight.shape == contribution.shape == gradient_norm.shape == value.shape
    ):
        return np.uint64(0)
    kind = _repetition(value, weight, contribution) if rows >= _FEW_ROWS else 0
    at = _put_integers(step, out, np.uint64(1))
    at = _put_integers(seq, out, at)
    at = _put_integers(stop_ns, out, at)
    at = _put_doubles(duration[:, None], out, at)
    for row in range(rows):
        out[at] = has_base[row]
        at += np.uint64(1)
    end = _put_flags(flags, out, at)
    if end > at:
        kind |= FLAGS
    if kind & CONSTANT:
        end = _put_doubles(weight[:1], out, end)
    scalars = (base[:, None], total[:, None], total_gradient_norm[:, None])
    return _put_numbers((*scalars, value, weight, contribution, gradient_norm), kind, out, end)
