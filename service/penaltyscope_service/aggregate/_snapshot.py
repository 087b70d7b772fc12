"""An aggregate as bytes, so that a start reads the newest steps only."""

import struct
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from penaltyscope_service.aggregate._finding import FirstFinding
from penaltyscope_service.aggregate._stream import StreamAggregate

SNAPSHOT_VERSION: Final = 1
"""To be raised whenever the meaning of any field changes: aggregates are then made anew."""

_HEAD: Final = struct.Struct("<II")
"""Version, and length of the description."""


class SnapshotError(ValueError):
    """The snapshot is of another version, or damaged."""


def take_snapshot(aggregate: StreamAggregate) -> bytes:
    """Everything that an aggregate remembers."""
    arrays: list[NDArray[Any]] = []
    values = _describe(aggregate, arrays)
    shapes = [(array.dtype.str, array.shape) for array in arrays]
    description = orjson.dumps((values, shapes), default=tuple)  # named tuples
    parts = [array.tobytes() for array in arrays]
    return _HEAD.pack(SNAPSHOT_VERSION, len(description)) + description + b"".join(parts)


def restore_snapshot(snapshot: bytes) -> StreamAggregate:
    """The aggregate that a snapshot was taken of.

    Raises:
        SnapshotError: if the snapshot is of another version, or its arrays do not fit together.
    """
    version, length = _HEAD.unpack_from(snapshot)
    if version != SNAPSHOT_VERSION:
        raise SnapshotError(f"version must be {SNAPSHOT_VERSION}, got {version}.")
    start = _HEAD.size + length
    values, shapes = orjson.loads(snapshot[_HEAD.size : start])
    names = list(values["names"].values())
    if names != list(range(len(names))):
        raise SnapshotError(f"places of terms must be in order, got {names}.")
    aggregate = StreamAggregate.empty()
    aggregate.terms.widen(len(names))
    _assign(aggregate, values, _arrays(snapshot, start, shapes))
    if aggregate.first is not None:
        aggregate.first = FirstFinding(*aggregate.first)
    return aggregate


# Every field of an aggregate is an array, a dataclass of the same kind, or what JSON can say; the
# names of its slots are those of its fields.


def _describe(state: Any, arrays: list[NDArray[Any]]) -> dict[str, Any]:  # noqa: ANN401
    values: dict[str, Any] = {}
    for name in state.__slots__:
        value = getattr(state, name)
        if isinstance(value, np.ndarray):
            arrays.append(value)
        else:
            values[name] = _describe(value, arrays) if is_dataclass(value) else value
    return values


def _assign(state: Any, values: dict[str, Any], arrays: Iterator[NDArray[Any]]) -> None:  # noqa: ANN401
    for name in state.__slots__:
        value = getattr(state, name)
        if isinstance(value, np.ndarray):
            setattr(state, name, _like(value, next(arrays), name))
        elif is_dataclass(value):
            _assign(value, values[name], arrays)
        else:
            setattr(state, name, values[name])


def _like(model: NDArray[Any], array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array; it is checked because kernels that write to it do not check where they write."""
    rows = array.shape[:1] if name == "pending" else model.shape[:1]
    shape = rows + model.shape[1:]
    if (array.dtype, array.shape) != (model.dtype, shape):
        expected = f"{model.dtype}{list(shape)}"
        raise SnapshotError(f"{name} must be {expected}, got {array.dtype}{list(array.shape)}.")
    return array


def _arrays(
    snapshot: bytes, start: int, shapes: list[tuple[str, list[int]]]
) -> Iterator[NDArray[Any]]:
    for dtype, shape in shapes:
        array = np.frombuffer(snapshot, dtype, int(np.prod(shape)), start).reshape(shape)
        start += array.nbytes
        yield array.astype(array.dtype.newbyteorder("="))  # a copy: this one can be written to
