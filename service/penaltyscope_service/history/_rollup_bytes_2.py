"""Rollups as versions 1 and 2 of the file have them: only read, never written any more."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history._rollup import ROLLUP

Rollups = NDArray[np.void]

_NAMES: Final = ("lowest", "highest", "last", "nonfinite")
_STEP_NAMES: Final = ("lowest_step", "highest_step", "nonfinite_step")
_COUNT_NAMES: Final = ("finite_count", "nonfinite_count")
_STRANGE: Final = ("nonfinite", "nonfinite_step", "nonfinite_count")
"""What is left out where everything is finite."""
_HEAD: Final = struct.Struct("<Bq")
"""The form, and the least step, from which the others are counted."""
_SINGLES, _NEAR, _FINITE = 1, 2, 4
"""Bits of the form: numbers are singles, two bytes say each step, nothing is not finite."""


def rollup_bytes_1(columns: int) -> int:
    """What a rollup of so many columns took in the file's first version, as it is in memory."""
    return columns * _stored(0).itemsize


def with_head(data: bytes) -> bytes:
    """Rollups of the first version as the second one has them."""
    return _HEAD.pack(0, 0) + data


def decode_rollups_2(blocks: Sequence[bytes], columns: int, wanted: Sequence[int]) -> Rollups:
    """``[S, wanted]`` of blocks of the same form and length."""
    dtype = _stored(blocks[0][0])
    body = b"".join(data[_HEAD.size :] for data in blocks)
    stored = np.frombuffer(body, dtype).reshape(-1, columns)[:, list(wanted)]
    each = len(stored) // len(blocks)
    first = np.repeat([_HEAD.unpack_from(data)[1] for data in blocks], each)[:, None]
    rollups: Rollups = np.zeros(stored.shape, ROLLUP)
    there = stored["finite_count"] > 0
    rollups["lowest"] = np.where(there, stored["lowest"], np.inf)
    rollups["highest"] = np.where(there, stored["highest"], -np.inf)
    rollups["lowest_step"] = stored["lowest_step"] + first
    rollups["highest_step"] = stored["highest_step"] + first
    if "nonfinite_count" in (dtype.names or ()):
        rollups["strange"] = np.where(stored["nonfinite_count"] > 0, stored["nonfinite"], 0.0)
        rollups["strange_step"] = stored["nonfinite_step"] + first
    return rollups


@lru_cache
def _stored(form: int) -> np.dtype[np.void]:
    number = "<f4" if form & _SINGLES else "<f8"
    step = "<u2" if form & _NEAR else "<i8"
    kinds: dict[str, Any] = dict.fromkeys(_NAMES, number) | dict.fromkeys(_STEP_NAMES, step)
    return np.dtype(
        [
            (name, kinds.get(name, "<u2"))
            for name in (*_NAMES, *_STEP_NAMES, *_COUNT_NAMES)
            if not (form & _FINITE and name in _STRANGE)
        ]
    )
