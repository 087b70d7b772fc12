"""The same evaluation again: what nearly every step of a training is."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor

from penaltyscope._compiled import Repeat, Scales, circumstances
from penaltyscope._evaluation import Evaluation
from penaltyscope._fused import Attach, Fusion
from penaltyscope._scalar import Scalar, packed, read_one
from penaltyscope.result import Layout

_MOST: Final = 256
"""Evaluations that are remembered."""

_NUMBERS: Final = {float, int}


class _Settings(NamedTuple):
    """The last time's weights and terms that were enabled."""

    weights: object
    enabled: object
    counted: Hashable
    """Which terms are enabled, and which weights are not 0; None if not all are numbers."""


@dataclass(slots=True)
class _Weighed:
    """What depends on the weights beyond which of them are 0, for one evaluation at a time."""

    weights: object
    """Of all terms, known by its identity."""
    scales: Scales
    attach: Attach


@dataclass(slots=True)
class _Known:
    """What is the same whatever the elements are, and the weights that are not 0."""

    distinct: Sequence[int]
    """The inputs that are not the same tensor as one before."""
    layout: Layout
    repeat: Repeat
    taken: Sequence[int]
    """The terms that the graph is of."""
    weigh: Callable[[Sequence[float]], Attach]
    """From the weights of these."""
    graded: Sequence[int]
    """The distinct tensors that there are gradients by."""
    pick: Callable[[list[float]], tuple[float, ...]]
    """The numbers of a row, but for the base loss, out of those of a graph with NaN after them."""
    spare: list[_Weighed]
    """What no evaluation is using; there may be several at once, on as many threads."""

    def weighed(self, weights: Sequence[float | Tensor]) -> _Weighed:
        """What is for these weights; to be put back among the spare ones."""
        try:
            found = self.spare.pop()
        except IndexError:
            found = _Weighed((), self.repeat.scales(), self.weigh(()))
        if found.weights is not weights:
            own = cast("list[float]", [weights[term] for term in self.taken])
            found.scales.write(own)
            found.weights, found.attach = weights, self.weigh(own)
        return found


class Steady:
    """Remembers evaluations by compiled graphs, and repeats them.

    Weights and enabled terms are known by their identity: who has not changed them passes them on
    as they are. Other weights, where they are numbers and the same ones are 0, are other numbers
    for the same graph.
    """

    def __init__(self) -> None:
        self._settings = _Settings(None, None, None)
        self._known: dict[Hashable, _Known] = {}

    def __call__(
        self,
        tensors: Sequence[Tensor],
        base: Tensor | None,
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> Evaluation | None:
        """The outcome for other elements and weights; None where more may have changed.

        Args:
            tensors: the pipeline's inputs.
            base: 0-d, the task loss, for the row only.
            weights: of all terms.
            enabled: for each term.
        """
        if torch.compiler.is_compiling():
            return None
        settings = self._settings
        if weights is not settings.weights or enabled is not settings.enabled:
            settings = self._settings = _Settings(weights, enabled, _counted(weights, enabled))
        known = self._known.get(_key(tensors, settings.counted))
        if known is None:
            return None
        weighed = known.weighed(weights)
        own, attach = [tensors[i] for i in known.distinct], weighed.attach
        found = known.repeat(own, weighed.scales)
        known.spare.append(weighed)
        if found is None:
            return None
        outputs, numbers = found
        gradients: list[Tensor | None] = [None] * len(own)
        for x, gradient in zip(known.graded, outputs.gradients, strict=True):
            gradients[x] = gradient.view(own[x].shape)
        total = attach(outputs.total, own, gradients)
        row: tuple[Scalar, ...] = known.pick([*numbers, math.nan])
        alarming = not math.isfinite(row[-1])
        if base is not None:
            task = read_one(base.detach())
            alarming = alarming or not (isinstance(task, Tensor) or math.isfinite(task))
            row = *row, task
        return Evaluation(
            layout=known.layout,
            numbers=packed(row, total.device),
            alarming=alarming,
            total=total,
            tap=None,
            gram=outputs.gram,
        )

    def remember(
        self,
        repeat: Repeat,
        fusion: Fusion,
        taken: Sequence[int],
        layout: Layout,
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> None:
        """Takes down an evaluation that one graph has done alone.

        Args:
            repeat: the graph.
            fusion: what came out.
            taken: the terms that it was of.
            layout: of the row.
            tensors: the pipeline's inputs.
            weights: of all terms.
            enabled: for each term.
        """
        places, distinct = repeat.places, sorted({*same(tensors)})
        key = _key(tensors, _counted(weights, enabled))
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
            taken=taken,
            weigh=fusion.repeated(),
            graded=[*places.total_norms],
            pick=itemgetter(*row),
            spare=[],
        )


def _counted(weights: Sequence[float | Tensor], enabled: Sequence[bool]) -> Hashable:
    if not _NUMBERS.issuperset(map(type, weights)):
        return None
    return tuple(enabled), tuple([weight != 0 for weight in weights])


def _key(tensors: Sequence[Tensor], counted: Hashable) -> Hashable:
    known = counted and circumstances(tensors)
    return known and (known, counted, *same(tensors))


def same(tensors: Sequence[Tensor]) -> list[int]:
    """For each tensor the first one that is the same."""
    ids = [*map(id, tensors)]
    return [*map(ids.index, ids)]
