"""The same evaluation again: what nearly every step of a training is."""

import math
from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled import Repeat, circumstances
from penaltyscope._evaluation import Evaluation
from penaltyscope._fused import Fusion
from penaltyscope._scalar import Scalar, packed, read_one
from penaltyscope.result import Layout

_MOST: Final = 256
"""Evaluations that are remembered."""


class _Known(NamedTuple):
    """What is the same whatever the elements are."""

    distinct: Sequence[int]
    """The inputs that are not the same tensor as one before."""
    layout: Layout
    repeat: Repeat
    total: Callable[[Tensor, Sequence[Tensor], Sequence[Tensor | None]], Tensor]
    graded: Sequence[int]
    """The distinct tensors that there are gradients by."""
    pick: Callable[[list[float]], tuple[float, ...]]
    """The numbers of a row, but for the base loss, out of those of a graph with NaN after them."""


class Steady:
    """Remembers evaluations by compiled graphs, of the same weights and terms, and repeats them.

    Weights and enabled terms are known by their identity: who has not changed them passes them on
    as they are.
    """

    def __init__(self) -> None:
        self._weights: object = None
        self._enabled: object = None
        self._known: dict[Hashable, _Known] = {}

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
        if torch.compiler.is_compiling():
            return None
        if weights is not self._weights or enabled is not self._enabled:
            return None
        known = self._known.get(_key(tensors))
        if known is None:
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
        """Whether these are the ones of the last time; all is forgotten if they are others."""
        if weights is self._weights and enabled is self._enabled:
            return True
        self._weights, self._enabled, self._known = weights, enabled, {}
        return False

    def remember(
        self,
        repeat: Repeat,
        fusion: Fusion,
        taken: Sequence[int],
        layout: Layout,
        tensors: Sequence[Tensor],
    ) -> None:
        """Takes down an evaluation that one graph has done alone.

        Args:
            repeat: the graph.
            fusion: what came out.
            taken: the terms that it was of.
            layout: of the row.
            tensors: the pipeline's inputs.
        """
        places, distinct, key = repeat.places, sorted({*same(tensors)}), _key(tensors)
        if (
            key is None
            or len(places.ranges) < len(distinct)
            or len(places.total_norms) > len(layout.known_sums)
        ):
            return
        values = dict(zip(taken, places.values, strict=True))
        row = [
            *(values.get(term, -1) for term in range(len(layout.terms))),
            *(place + i for _, place in sorted(places.ranges.items()) for i in range(2)),
            *places.norms.values(),
            *(place for _, place in sorted(places.total_norms.items())),
            places.total,
        ]
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = _Known(
            distinct=distinct,
            layout=layout,
            repeat=repeat,
            total=fusion.repeated(),
            graded=[*places.total_norms],
            pick=itemgetter(*row),
        )


def _key(tensors: Sequence[Tensor]) -> Hashable:
    known = circumstances(tensors)
    return known and (known, *same(tensors))


def same(tensors: Sequence[Tensor]) -> list[int]:
    """For each tensor the first one that is the same."""
    ids = [*map(id, tensors)]
    return [*map(ids.index, ids)]
