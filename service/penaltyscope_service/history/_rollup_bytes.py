"""Rollups as few bytes, which are still read a thousand blocks at a time."""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._rollup import ROLLUP

Rollups = NDArray[np.void]

_NUMBERS: Final = ("lowest", "highest", "last", "nonfinite")
_STEPS: Final = ("lowest_step", "highest_step", "nonfinite_step")
_STRANGE: Final = ("nonfinite", "nonfinite_step", "nonfinite_count")
"""What is 0 throughout where everything is finite."""
_HEAD: Final = struct.Struct("<Bq")
"""The form, and the least step, from which the others are counted."""
_SINGLES, _NEAR, _FINITE = 1, 2, 4
"""Bits of the form: numbers are singles, two bytes say each step, nothing is not finite."""


def encode_rollups(rollups: Rollups) -> bytes:
    """The rollups of a block, ``[S, C]``."""
    finite = not rollups["nonfinite_count"].any()
    steps = _STEPS[:2] if finite else _STEPS
    first = min(int(rollups[name].min()) for name in steps)
    # Beyond that, steps are stored as they are: a difference of two might not fit.
    near = all(int(rollups[name].max()) - first < 1 << 16 for name in steps)
    first = first if near else 0
    singles = all(_are_singles(rollups[name]) for name in _NUMBERS)
    form = _SINGLES * singles | _NEAR * near | _FINITE * finite
    stored = np.empty(rollups.shape, _stored(form))
    for name in stored.dtype.names or ():
        stored[name] = rollups[name] - first if name in _STEPS else rollups[name]
    return _HEAD.pack(form, first) + stored.tobytes()


def from_version_1(data: bytes, rollups: int, columns: int) -> bytes:
    """The same as it is written today; a file's first version had rollups as they are in memory."""
    plain = len(data) == rollups * columns * ROLLUP.itemsize
    return _HEAD.pack(0, 0) + data if plain else data


def decode_rollups(blocks: Iterable[bytes], columns: int, wanted: Sequence[int]) -> Rollups:
    """Rollups of blocks of the same terms, one after the other.

    Args:
        blocks: what ``encode_rollups`` made of each.
        columns: how many there are.
        wanted: which of them to read.

    Returns:
        ``[S, wanted]`` of type ``ROLLUP``.
    """
    parts: list[Rollups] = [np.zeros((0, len(wanted)), ROLLUP)]
    for form, group in groupby(blocks, lambda data: data[0]):
        alike = list(group)
        dtype = _stored(form)
        body = b"".join(data[_HEAD.size :] for data in alike)
        stored = np.frombuffer(body, dtype).reshape(-1, columns)[:, list(wanted)]
        counts = [(len(data) - _HEAD.size) // (dtype.itemsize * columns) for data in alike]
        firsts = np.repeat([_HEAD.unpack_from(data)[1] for data in alike], counts)[:, None]
        rollups: Rollups = np.zeros(stored.shape, ROLLUP)
        for name in dtype.names or ():
            rollups[name] = stored[name] + firsts if name in _STEPS else stored[name]
        parts.append(rollups)
    return np.concatenate(parts)


@lru_cache
def _stored(form: int) -> np.dtype[np.void]:
    """How the fields of ``ROLLUP`` are stored."""
    number = "<f4" if form & _SINGLES else "<f8"
    step = "<u2" if form & _NEAR else "<i8"
    kinds: dict[str, Any] = dict.fromkeys(_NUMBERS, number) | dict.fromkeys(_STEPS, step)
    return np.dtype(
        [
            (name, kinds.get(name, "<u2"))
            for name in ROLLUP.names or ()
            if not (form & _FINITE and name in _STRANGE)
        ]
    )


def _are_singles(numbers: NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):  # then it is not the same, that is all
        again = numbers.astype("<f4").astype("<f8")
    return again.tobytes() == numbers.tobytes()
