"""Numbers of eight bytes out of records that lie at equal distances."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

_FEW: Final = 16
"""Up to so many records, one call that picks bytes is quicker than one call for each column."""


class Run(NamedTuple):
    """Where records are: ``repeats`` of them, one every ``stride`` bytes."""

    data: bytes
    start: int
    stride: int
    repeats: int


class Place(NamedTuple):
    """Where numbers are, in bytes from the record's begin."""

    start: int
    numbers: int = 1
    distance: int = 8
    """From one number to the next."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Columns of numbers, in the order of their places."""

    places: tuple[Place, ...]
    columns: tuple[slice, ...]
    """Of each place."""
    bytes_of_record: NDArray[np.intp]

    @classmethod
    def of(cls, places: tuple[Place, ...]) -> Self:
        """What picks the numbers at these places."""
        stops = list(accumulate((place.numbers for place in places), initial=0))
        starts = [p.start + i * p.distance for p in places for i in range(p.numbers)]
        return cls(
            places,
            tuple(map(slice, stops, stops[1:])),
            np.array([start + i for start in starts for i in range(8)], np.intp),
        )

    def __call__(self, run: Run) -> NDArray[np.float64]:
        """``[N, C]``, the numbers of all records; the bits are as they were sent."""
        data, start, stride, count = run
        if count <= _FEW:
            rows: NDArray[np.uint8] = np.ndarray((count, stride), np.uint8, data, start)
            return rows.take(self.bytes_of_record, axis=1).view(np.float64)
        numbers = np.empty((count, len(self.bytes_of_record) // 8))
        for place, columns in zip(self.places, self.columns, strict=True):
            numbers[:, columns] = _view(run, place)
        return numbers


def _view(run: Run, place: Place) -> NDArray[Any]:
    shape, strides = (run.repeats, place.numbers), (run.stride, place.distance)
    return np.ndarray(shape, "<f8", run.data, run.start + place.start, strides)


@dataclass(frozen=True, slots=True)
class GatherVarints:
    """Columns of integers of at most nine bytes, each as wide in all records."""

    bytes_of_record: NDArray[np.intp]
    powers: NDArray[np.int64]
    """``[B, C]``: what each byte's seven bits mean for each column."""

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int]]) -> Self:
        """What picks the integers between these positions."""
        places = [i for start, stop in spans for i in range(start, stop)]
        powers = np.zeros((len(places), len(spans)), np.int64)
        byte = 0
        for column, (start, stop) in enumerate(spans):
            for i in range(stop - start):
                powers[byte, column] = 1 << 7 * i
                byte += 1
        return cls(np.array(places, np.intp), powers)

    def __call__(self, run: Run) -> NDArray[np.int64]:
        """``[N, C]``, the integers of all records."""
        data, start, stride, count = run
        rows: NDArray[np.uint8] = np.ndarray((count, stride), np.uint8, data, start)
        digits = rows.take(self.bytes_of_record, axis=1) & 0x7F
        numbers: NDArray[np.int64] = digits.dot(self.powers)  # quicker than @ for few
        return numbers
