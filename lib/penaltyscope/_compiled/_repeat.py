"""A graph's answer once more, for tensors that differ from others in their elements alone."""

import math
from collections.abc import Hashable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._assumption import Assumption
from penaltyscope._compiled._direct import Direct, kind_of
from penaltyscope._compiled._graph import Inputs, Outputs
from penaltyscope._compiled._solution import Places


class Repeated(NamedTuple):
    """What the graph found, and its numbers read."""

    outputs: Outputs
    numbers: list[float]


class Scales:
    """Weights and shares as a graph takes them, for one run at a time.

    They are written in place: to make another tensor takes as long as an operation.
    """

    __slots__ = ("_bytes", "_layout", "tensor")

    def __init__(self, scales: Tensor, rows: Sequence[int]) -> None:
        """Copies some.

        Args:
            scales: ``[2, F]``.
            rows: the calls, in order, whose weights are to be written; those of others are 0.
        """
        self._bytes = bytearray(scales.numpy().tobytes())
        self._layout = Struct("".join("d" if i in rows else "8x" for i in range(scales.shape[1])))
        self.tensor = torch.frombuffer(self._bytes, dtype=scales.dtype).view(2, -1)

    def write(self, weights: Sequence[float]) -> None:
        """Replaces the calls' weights."""
        self._layout.pack_into(self._bytes, 0, *weights)


class Repeat:
    """A run with all that was found out about it, on the host.

    It serves all weights of which the same ones are 0: the graph is given them as numbers.

    At most steps of a training nothing has changed but elements. Right after such a step little of
    what Python needs is in the processor's caches, so that each function that is not called counts.
    """

    def __init__(
        self,
        direct: Direct,
        scales: Tensor,
        places: Places,
        assumption: Assumption,
        tensors: int,
    ) -> None:
        """Takes down what stays as it is.

        Args:
            direct: the run.
            scales: weights and shares that it was for; calls that were not chosen have weight 0.
            places: of its numbers.
            assumption: of its graph.
            tensors: how many it was for.
        """
        self.places = places
        self._direct = direct
        self._scales = scales
        self._assumption = assumption
        self._norms = itemgetter(0, 0, *places.checked)
        self._ranges = [*_pairs(places.ranges, tensors)]

    def scales(self) -> Scales:
        """New ones, for weights of the calls that were chosen."""
        return Scales(self._scales, self.places.values)

    def __call__(self, tensors: Sequence[Tensor], scales: Scales) -> Repeated | None:
        """The answer for tensors in the same circumstances; None where it may not be right."""
        given = [x.detach() if x.requires_grad else x for x in tensors]
        outputs = self._direct(Inputs(given, (), {}, scales.tensor))
        numbers: list[float] = outputs.numbers.numpy().tolist()
        # A sum that is finite is one of norms that are.
        sure = math.isfinite(sum(self._norms(numbers))) and self._assumption.covers(
            [pair and (numbers[pair[0]], numbers[pair[1]]) for pair in self._ranges]
        )
        return Repeated(outputs, numbers) if sure else None


def circumstances(tensors: Sequence[Tensor]) -> Hashable:
    """All but elements that an evaluation depends on; None where that cannot be told."""
    kind = kind_of(tensors)
    return kind and (
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        tuple([x.requires_grad for x in tensors]),
        kind,
    )


def _pairs(ranges: Mapping[int, int], tensors: int) -> Sequence[tuple[int, int] | None]:
    return [(ranges[x], ranges[x] + 1) if x in ranges else None for x in range(tensors)]
