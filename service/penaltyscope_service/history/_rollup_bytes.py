"""Rollups as few bytes, which are still read a thousand blocks at a time."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._rollup import ROLLUP
from penaltyscope_service.history._rollup_bytes_2 import decode_rollups_2

Rollups = NDArray[np.void]

_NUMBERS: Final = ("lowest", "highest", "strange")
_STEPS: Final = ("lowest_step", "highest_step", "strange_step")
_SINGLES, _FINITE, _BYTES, _SHORTS = 1, 4, 16, 32
"""Bits of the form: numbers are singles, none is strange, one byte or two tell each step."""
_THIRD: Final = 8
"""The bit that older forms do not have."""


def encode_rollups(rollups: Rollups) -> bytes:
    """The rollups of a block, ``[S, C]``: of each the first step, and how far the others are."""
    finite = not rollups["strange"].any()
    numbers, steps = (_NUMBERS[:2], _STEPS[:2]) if finite else (_NUMBERS, _STEPS)
    step = np.stack([rollups[name] for name in steps])
    first = step.min(axis=(0, 2))
    distance = (step - first[:, None]).view(np.uint64)
    stride = max(int(np.gcd.reduce(distance, axis=None)), 1)
    distance //= np.uint64(stride)
    farthest = int(distance.max())
    near = _BYTES if farthest < 1 << 8 else _SHORTS if farthest < 1 << 16 else 0
    singles = all(_are_singles(rollups[name]) for name in numbers)
    form = _THIRD | _SINGLES * singles | _FINITE * finite | near
    stored = np.empty(1, _stored(form, *rollups.shape))
    stored["form"], stored["stride"], stored["first"] = form, stride, first
    for number, name, far in zip(numbers, steps, distance, strict=True):
        stored["rollups"][number], stored["rollups"][name] = rollups[number], far
    return stored.tobytes()


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


def _are_singles(numbers: NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        again = numbers.astype("<f4").astype("<f8")
    return again.tobytes() == numbers.tobytes()
