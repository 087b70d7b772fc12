"""The same evaluation again: what nearly every step of a training is."""

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled import Repeat
from penaltyscope._evaluation import Evaluation
from penaltyscope._fused import Fusion
from penaltyscope._scalar import Scalar, packed, read_one
from penaltyscope.result import Layout


class _Known(NamedTuple):
    """What is the same at all of them."""

    weights: Sequence[float | Tensor]
    enabled: Sequence[bool]
    """Both known by their identity: who has not changed them passes them on as they are."""
    same: Sequence[int]
    """For each input the first one that is the same tensor."""
    distinct: Sequence[int]
    layout: Layout
    repeat: Repeat
    total: Callable[[Tensor, Sequence[Tensor], Sequence[Tensor | None]], Tensor]
    graded: Sequence[int]
    """The distinct tensors that there are gradients by."""
    pick: Callable[[list[float]], tuple[float, ...]]
    """The numbers of a row, but for the base loss, out of those of a graph with NaN after them."""


class Steady:
    """Remembers one evaluation by a compiled graph, and repeats it."""

    def __init__(self) -> None:
        self._known: _Known | None = None
        self._last: tuple[object, object] = None, None

    def __reduce__(self) -> tuple[type["Steady"], tuple[()]]:
        # Graphs cannot be copied; a copy finds out for itself.
        return Steady, ()

    def __call__(
        self,
        tensors: Sequence[Tensor],
        base: Tensor | None,
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> Evaluation | None:
        """The outcome for other elements; None where more than they may have changed.

        Args:
            tensors: the pipeline's inputs.
            base: 0-d, the task loss, for the row only.
            weights: of all terms.
            enabled: for each term.
        """
        known = self._known
        if known is None or torch.compiler.is_compiling():
            return None
        if weights is not known.weights or enabled is not known.enabled:
            return None
        if same(tensors) != known.same:
            return None
        own = [tensors[i] for i in known.distinct]
        found = known.repeat(own)
        if found is None:
            return None
        outputs, numbers = found
        gradients: list[Tensor | None] = [None] * len(own)
        for x, gradient in zip(known.graded, outputs.gradients, strict=True):
            gradients[x] = gradient.view(own[x].shape)
        total = known.total(outputs.total, own, gradients)
        row: tuple[Scalar, ...] = known.pick([*numbers, math.nan])
        if base is not None:
            row = *row, read_one(base.detach())
        alarming = not all(
            isinstance(x, Tensor) or math.isfinite(x) for x in row[-1 if base is None else -2 :]
        )
        return Evaluation(
            layout=known.layout,
            numbers=packed(row, total.device),
            alarming=alarming,
            total=total,
            tap=None,
            gram=outputs.gram,
        )

    def is_settled(self, weights: Sequence[float | Tensor], enabled: Sequence[bool]) -> bool:
        """Whether these are the same as the last time that this was asked."""
        before, self._last = self._last, (weights, enabled)
        return before[0] is weights and before[1] is enabled

    def remember(
        self,
        repeat: Repeat,
        fusion: Fusion,
        taken: Sequence[int],
        layout: Layout,
        inputs: Sequence[int],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> None:
        """Takes down an evaluation that one graph has done alone.

        Args:
            repeat: the graph.
            fusion: what came out.
            taken: the terms that it was of.
            layout: of the row.
            inputs: for each the first one that is the same tensor.
            weights: of all terms.
            enabled: for each term.
        """
        places, distinct = repeat.places, sorted({*inputs})
        if len(places.ranges) < len(distinct) or len(places.total_norms) > len(layout.known_sums):
            return
        values = dict(zip(taken, places.values, strict=True))
        row = [
            *(values.get(term, -1) for term in range(len(enabled))),
            *(place + i for _, place in sorted(places.ranges.items()) for i in range(2)),
            *places.norms.values(),
            *(place for _, place in sorted(places.total_norms.items())),
            places.total,
        ]
        self._known = _Known(
            weights=weights,
            enabled=enabled,
            same=inputs,
            distinct=distinct,
            layout=layout,
            repeat=repeat,
            total=fusion.repeated(),
            graded=[*places.total_norms],
            pick=itemgetter(*row),
        )


def same(tensors: Sequence[Tensor]) -> list[int]:
    """For each tensor the first one that is the same."""
    ids = [*map(id, tensors)]
    return [*map(ids.index, ids)]
