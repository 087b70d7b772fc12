"""Lines from the steps themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.history import BlockHead, Reader
from penaltyscope_service.series._lines import LineKey

Points = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps and values."""


@dataclass(slots=True)
class RawLines:
    """Numbers of blocks that were read whole, put in order at the end.

    Blocks are in order of arrival, and so are their rows; a chart goes by step, and evaluations
    of the same step by incarnation and ``seq``.
    """

    keys: Sequence[LineKey]
    from_step: int
    to_step: int
    order: list[NDArray[np.int64]] = field(default_factory=list)
    """``[3, N]`` each: seq, source, step."""
    values: list[NDArray[np.float64]] = field(default_factory=list)
    """``[L, N]`` each, for the lines."""
    real: list[NDArray[np.bool_]] = field(default_factory=list)
    """``[L, N]`` each: where there is a number."""

    def read(self, reader: Reader, heads: Iterable[BlockHead]) -> None:
        """Adds the rows of blocks, as far as they are in the range."""
        names = {"step", "seq"}.union(*(key.needs for key in self.keys))
        for head in heads:
            columns = reader.columns(head, names)
            step = columns["step"]
            kept = (step >= self.from_step) & (step <= self.to_step)
            source = np.full(len(step), head.source)
            values = np.zeros((len(self.keys), len(step)))
            real = np.zeros(values.shape, np.bool_)
            for i, key in enumerate(self.keys):
                place = key.place(head.terms)
                if place is not None:
                    values[i], real[i] = key.extract(columns, place)
            self.order.append(np.stack((columns["seq"], source, step))[:, kept])
            self.values.append(values[:, kept])
            self.real.append(real[:, kept])

    def points(self) -> tuple[NDArray[np.int64], list[Points]]:
        """The steps of all rows, ascending, and the points of every line."""
        if not self.order:
            nothing = np.empty(0, np.int64)
            return nothing, [(nothing, np.empty(0)) for _ in self.keys]
        keys = np.concatenate(self.order, axis=1)
        values = np.concatenate(self.values, axis=1)
        real = np.concatenate(self.real, axis=1)
        index = np.lexsort(keys)
        step, values, real = keys[2][index], values[:, index], real[:, index]
        return step, [(step[r], v[r]) for v, r in zip(values, real, strict=True)]
