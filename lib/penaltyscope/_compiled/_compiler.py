"""The compiled engine: one graph for all calls that can be traced."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from penaltyscope._compiled._apart import Backend
from penaltyscope._compiled._assumption import Assumption
from penaltyscope._compiled._evaluator import Evaluator
from penaltyscope._compiled._graph import Blueprint
from penaltyscope._compiled._reach import reachable
from penaltyscope._compiled._repeat import Repeat
from penaltyscope._compiled._tables import make_tables
from penaltyscope._compiled._traced import TracedRequest, can_be_traced, distinct, traced
from penaltyscope._fused import (
    Call,
    Fusion,
    Plan,
    Request,
    Situation,
    classes_of,
    full_precision,
    make_plan,
    request,
)
from penaltyscope._scalar import Extremes, extremes, on_host

_PATIENCE: Final = 8
"""Finite tensors that may be other than a graph assumes, before there is one for all tensors."""

_Asked: TypeAlias = Request | TracedRequest


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a graph found."""

    fusion: Fusion
    """Of the enabled calls that it has."""
    ranges: Sequence[Extremes | None]
    """Of all tensors; None where the graph has none."""


@dataclass(frozen=True, slots=True)
class _Graph:
    evaluate: Evaluator
    taken: tuple[int, ...]
    """Positions of its calls."""
    traced: Mapping[int, int]
    """Of those without a closed form, positions by the plan's numbers."""
    held: tuple[Tensor, ...]
    """What they can reach."""
    calls: tuple[Call, ...]
    """Kept, because they are known by their identity."""


@dataclass(slots=True)
class _Family:
    """The graphs for some requests."""

    graphs: list[_Graph] = field(default_factory=list)
    cautious: bool = False
    """Whether assumptions have turned out to be wrong too often."""


@dataclass(slots=True)
class _Last:
    """Calls, and what they ask for."""

    calls: Sequence[Call]
    key: object
    """What else that depends on."""
    asked: tuple[_Asked, ...]
    masks: Sequence[Tensor]
    family: _Family
    graph: _Graph | None = None
    """The one that was used."""


class Compiler:
    """Evaluates calls, and keeps the graphs for them."""

    def __init__(self, backend: Backend = "inductor") -> None:
        self._backend = backend
        self._families: dict[Hashable, _Family] = {}
        self._last: _Last | None = None
        self._answered: _Graph | None = None
        """The graph of the last evaluation, if that took one, which had neither masks nor calls
        without a closed form."""

    def __call__(
        self,
        calls: Sequence[Call],
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        *,
        enabled: Sequence[bool],
        gram: bool = False,
    ) -> Compilation | None:
        """Evaluates those of the calls that can be traced; None if another engine has to.

        With ``gram`` it is all of the enabled ones or none.

        Args:
            calls: penalties, with positions of their tensors; the same object for the same calls
                saves time.
            tensors: distinct; gradients are by those that require grad, where autograd records.
            weights: of the calls, numbers or 0-d tensors.
            enabled: for each call; one that is not is in the graph all the same.
            gram: whether inner products of the calls' gradients are wanted.

        Raises:
            TypeError: as the penalties themselves do.
            ValueError: likewise.
            RuntimeError: there is no C++ compiler where one is needed.
        """
        self._answered = None
        if any(isinstance(x, FakeTensor) for x in tensors):
            return None  # a graph would look for their memory
        recording = torch.is_grad_enabled()
        given = [x.detach() if x.requires_grad else x for x in tensors]
        wanted = [recording and x.requires_grad for x in tensors]
        # Without no_grad(), which costs as much as an operation: nothing here requires a gradient.
        with full_precision(tensors):
            last = self._ask(calls, given, wanted, gram=gram)
            graph = self._graph(last, given, wanted, gram=gram)
            own = [enabled[i] for i in graph.taken]
            on = tuple([i for i in graph.taken if enabled[i]])
            if not on or (gram and len(on) < sum(enabled)):
                return None
            found = graph.evaluate(
                given,
                last.masks,
                {i: traced(calls[position]) for i, position in graph.traced.items()},
                [weights[i] for i in graph.taken],
                own,
            )
        if found is None:
            if graph.evaluate.assumption.losses > _PATIENCE:
                last.family.cautious = True
                last.family.graphs.remove(graph)
                last.graph = None
            return None
        if not (graph.traced or last.masks):
            self._answered = graph
        chosen = tuple([calls[i] for i in on])
        fusion = Fusion(on, found.solution, chosen, tuple([weights[i] for i in on]))
        return Compilation(fusion, found.ranges)

    def repeat(self, tensors: Sequence[Tensor]) -> Repeat | None:
        """The last evaluation, of these tensors, to be had again; None where it cannot be."""
        return None if self._answered is None else self._answered.evaluate.repeat(tensors)

    def _graph(
        self, last: _Last, tensors: Sequence[Tensor], wanted: Sequence[bool], *, gram: bool
    ) -> _Graph:
        # One that has come to hold what is learned does not belong into a graph any more.
        if last.graph is not None and not _learned(last.graph.held):
            return last.graph
        shapes = [x.shape for x in tensors]
        for graph in last.family.graphs:
            if graph.evaluate.assumption.allows(shapes) and not _learned(graph.held):
                last.graph = graph
                return graph
        calls, asked, classes = last.calls, last.asked, classes_of(tensors)
        ready = [
            i
            for i, one in enumerate(asked)
            if isinstance(one, Request)
            or (not _learned(_held(calls[i])) and can_be_traced(calls[i], tensors, wanted))
        ]
        # What can be known without waiting.
        quick = [not last.family.cautious and on_host(x) for x in tensors]
        ranges = [extremes(x) if on else None for x, on in zip(tensors, quick, strict=True)]
        situation = Situation.of(shapes, ranges)
        requests = [asked[i] for i in ready]
        plan = make_plan(requests, classes, wanted, situation, gram=gram, in_graph=True)
        fields = _fields(plan)
        arguments = {i: (asked[ready[i]].tensors, asked[ready[i]].mask) for i in plan.forms}
        used = {tensors[x].dtype for own, _ in arguments.values() for x in own}
        blueprint = Blueprint(
            plan,
            arguments,
            fields,
            tuple(x for x, kind in enumerate(classes) if kind >= 0),
            torch.float64 if torch.float64 in used else torch.float32,
        )
        tables = make_tables(plan, fields, tensors[0].device, gram=gram)
        free = {i: ready[i] for i in plan.forms if isinstance(asked[ready[i]], TracedRequest)}
        graph = _Graph(
            Evaluator(blueprint, tables, Assumption(plan, situation), self._backend),
            taken=tuple(ready[i] for i in plan.forms),
            traced=free,
            held=tuple(x for position in free.values() for x in _held(calls[position])),
            calls=tuple(calls),
        )
        last.family.graphs.append(graph)
        last.graph = graph
        return graph

    def _ask(
        self,
        calls: Sequence[Call],
        tensors: Sequence[Tensor],
        wanted: Sequence[bool],
        *,
        gram: bool,
    ) -> _Last:
        key = [(x.shape, x.dtype, x.device) for x in tensors], wanted, gram
        last = self._last
        if last is None or last.calls is not calls or last.key != key:
            classes = classes_of(tensors)
            masks: list[Tensor] = []
            asked = tuple(_ask(call, masks, classes, wanted) for call in calls)
            kinds = tuple((x.dtype, x.device) for x in tensors)
            family = self._families.setdefault(
                (asked, classes, kinds, tuple(wanted), gram), _Family()
            )
            last = self._last = _Last(calls, key, asked, masks, family)
        return last


def _ask(call: Call, masks: list[Tensor], classes: Sequence[int], wanted: Sequence[bool]) -> _Asked:
    own: list[Tensor] = [*masks]
    closed = request(call, own, active=True)
    if closed is not None and closed.fits(classes):
        masks[:] = own
        return closed
    tensors = distinct(call)
    return TracedRequest(id(call.penalty), tensors, tuple(wanted[x] for x in tensors))


def _held(call: Call) -> tuple[Tensor, ...]:
    return tuple(reachable((call.penalty, call.options)))


def _learned(tensors: Sequence[Tensor]) -> bool:
    return any(x.requires_grad for x in tensors)


def _fields(plan: Plan) -> dict[int, tuple[int, ...]]:
    fields: dict[int, dict[int, None]] = {x: {} for x in plan.squares}
    for slope in plan.slopes:
        fields[slope.tensor] |= {field: None for _, field in slope.parts}
    return {x: tuple(own) for x, own in fields.items()}
