"""What comes out of a graph, as the numbers that they are."""

import math
from collections.abc import Sequence
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
        self.rows = tuple(rows)
        self._all = len(rows) == count
        self._norms = norms
        self._dtype = blueprint.dtype
        # A weight that is not known may be 0, and leave NaN.
        self._known_norms = tuple(p for (row, _), p in norms.items() if counted[rows[row]])
        self._total_norms = {x: totals + s for s, x in enumerate(tensors)}
        self._total = totals + len(tensors)
        self._ranges = {x: self._total + 1 + 2 * i for i, x in enumerate(blueprint.ranged)}

    def read(self, outputs: Outputs, tensors: Sequence[Tensor]) -> Found:
        """The answer; nothing waits for a device.

        Args:
            outputs: of the graph.
            tensors: that it was given.
        """
        numbers = outputs.numbers
        host = on_host(numbers)
        found: Sequence[Scalar] = numbers.numpy().tolist() if host else numbers.unbind()
        ranges: list[Extremes | None] = [None] * len(tensors)
        for x, place in self._ranges.items():
            ranges[x] = found[place], found[place + 1]
        gram = outputs.gram
        if gram is not None and not self._all:
            chosen = torch.tensor(self.rows, device=gram.device)
            gram = gram[chosen[:, None], chosen]
        solution = Solution(
            values=found[: len(self.rows)] if self._all else [found[i] for i in self.rows],
            total=found[self._total],
            dtype=self._dtype,
            gradients={
                x: g if tensors[x].dim() == 2 else g.view(tensors[x].shape)
                for x, g in zip(self._total_norms, outputs.gradients, strict=True)
            },
            norms={key: found[place] for key, place in self._norms.items()},
            total_norms={x: found[place] for x, place in self._total_norms.items()},
            gram=gram,
        )
        overflowed = (
            host
            and not _finite([found[place] for place in self._known_norms])
            and _finite(found[self._total + 1 :])
        )
        return Found(solution, ranges, overflowed)


def _finite(numbers: Sequence[Scalar]) -> bool:
    # One sum, if it does not overflow, tells as much as each of them.
    return math.isfinite(sum(numbers)) or all(map(math.isfinite, numbers))
