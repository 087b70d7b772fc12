"""What comes out of a graph, as the numbers that they are."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._graph import Blueprint, Outputs
from penaltyscope._fused import Solution
from penaltyscope._scalar import Extremes, Scalar, on_host


class Found(NamedTuple):
    """The answer for some of the calls."""

    solution: Solution
    ranges: Sequence[Extremes | None]
    """Of all tensors; None where the graph has none."""
    overflowed: bool
    """Whether finite tensors have led to a norm that is not; known on the host only."""


class Places(NamedTuple):
    """Where the numbers of some of a graph's calls are."""

    values: tuple[int, ...]
    norms: Mapping[tuple[int, int], int]
    """By call (its number among those that were chosen) and tensor."""
    total_norms: Mapping[int, int]
    """By tensor."""
    total: int
    ranges: Mapping[int, int]
    """By tensor, the place of the smallest element; the largest one follows."""
    checked: tuple[int, ...]
    """Of the norms that are finite unless something has overflowed, or a tensor is not."""


class Selection:
    """Some of a graph's calls, and where their numbers are."""

    def __init__(
        self, blueprint: Blueprint, rows: Sequence[int], counted: Sequence[bool | None]
    ) -> None:
        """Finds the places.

        Args:
            blueprint: of the graph.
            rows: the calls by number.
            counted: for each call of the graph whether its weight is not 0, None where that is not
                known. One that is 0 leaves no norm.
        """
        plan, tensors = blueprint.plan, [*blueprint.fields]
        count = len(plan.forms)
        number = {call: i for i, call in enumerate(plan.forms)}
        sloped = {(number[slope.call], slope.tensor) for slope in plan.slopes}
        norms = {
            (row, x): count + s * count + i
            for row, i in enumerate(rows)
            for s, x in enumerate(tensors)
            if (i, x) in sloped and counted[i] is not False
        }
        totals = count + len(tensors) * count
        total = totals + len(tensors)
        self.rows = tuple(rows)
        self.is_whole = len(rows) == count
        """Whether they are all of the graph's calls."""
        self.places = Places(
            values=tuple(rows),
            norms=norms,
            total_norms={x: totals + s for s, x in enumerate(tensors)},
            total=total,
            ranges={x: total + 1 + 2 * i for i, x in enumerate(blueprint.ranged)},
            # A weight that is not known may be 0, and leave NaN.
            checked=tuple(p for (row, _), p in norms.items() if counted[rows[row]]),
        )
        self._dtype = blueprint.dtype

    def read(self, outputs: Outputs, tensors: Sequence[Tensor]) -> Found:
        """The answer; nothing waits for a device.

        Args:
            outputs: of the graph.
            tensors: that it was given.
        """
        numbers, places = outputs.numbers, self.places
        host = on_host(numbers)
        found: Sequence[Scalar] = numbers.numpy().tolist() if host else numbers.unbind()
        ranges: list[Extremes | None] = [None] * len(tensors)
        for x, place in places.ranges.items():
            ranges[x] = found[place], found[place + 1]
        gram = outputs.gram
        if gram is not None and not self.is_whole:
            chosen = torch.tensor(self.rows, device=gram.device)
            gram = gram[chosen[:, None], chosen]
        solution = Solution(
            values=[found[place] for place in places.values],
            total=found[places.total],
            dtype=self._dtype,
            gradients={
                x: g if tensors[x].dim() == 2 else g.view(tensors[x].shape)
                for x, g in zip(places.total_norms, outputs.gradients, strict=True)
            },
            norms={key: found[place] for key, place in places.norms.items()},
            total_norms={x: found[place] for x, place in places.total_norms.items()},
            gram=gram,
        )
        overflowed = (
            host
            and not _finite([found[place] for place in places.checked])
            and _finite(found[places.total + 1 :])
        )
        return Found(solution, ranges, overflowed)


def _finite(numbers: Sequence[Scalar]) -> bool:
    # One sum, if it does not overflow, tells as much as each of them.
    return math.isfinite(sum(numbers)) or all(map(math.isfinite, numbers))
