"""The compiled engine: one graph for all calls that can be traced."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from penaltyscope._compiled._apart import Backend
from penaltyscope._compiled._graph import Blueprint, Inputs
from penaltyscope._compiled._reach import reachable
from penaltyscope._compiled._runner import Runner
from penaltyscope._compiled._solution import Found, scales, solution
from penaltyscope._compiled._tables import Tables, make_tables
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
from penaltyscope._scalar import Extremes
from penaltyscope.penalties._reduction import check_mask

_UNKNOWN = float("nan"), float("nan")

_Asked: TypeAlias = Request | TracedRequest


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a graph found."""

    fusion: Fusion
    """Of the enabled calls that it has."""
    ranges: Mapping[int, Extremes]
    """By tensor, where there are elements."""


@dataclass(frozen=True, slots=True)
class _Graph:
    blueprint: Blueprint
    tables: Tables
    run: Runner
    taken: tuple[int, ...]
    """Positions of its calls."""
    traced: Mapping[int, int]
    """Of those without a closed form, positions by the plan's numbers."""
    held: tuple[Tensor, ...]
    """What they can reach."""
    calls: tuple[Call, ...]
    """Kept, because they are known by their identity."""


@dataclass(frozen=True, slots=True)
class _Last:
    """Calls, and what they ask for."""

    calls: Sequence[Call]
    key: Hashable
    """What else that depends on."""
    asked: tuple[_Asked, ...]
    masks: Sequence[Tensor]
    graphs: list[_Graph]
    """For requests like these."""


class Compiler:
    """Evaluates calls, and keeps the graphs for them."""

    def __init__(self, backend: Backend = "inductor") -> None:
        self._backend = backend
        self._graphs: dict[Hashable, list[_Graph]] = {}
        self._last: _Last | None = None

    def __reduce__(self) -> tuple[type["Compiler"], tuple[Backend]]:
        # Graphs cannot be copied; a copy makes its own.
        return Compiler, (self._backend,)

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
        recording = torch.is_grad_enabled()
        given = [x.detach() for x in tensors]
        wanted = [recording and x.requires_grad for x in tensors]
        masks: list[Tensor] = []
        with torch.no_grad(), full_precision(tensors):
            graph = self._graph(calls, given, wanted, masks, gram=gram)
            on = [i for i in graph.taken if enabled[i]]
            if not on or (gram and len(on) < sum(enabled)):
                return None
            _check_masks(graph.blueprint, given, masks)
            own = [weights[i] if enabled[i] else 0.0 for i in graph.taken]
            inputs = Inputs(
                tensors=given,
                masks=masks,
                traced={i: traced(calls[position]) for i, position in graph.traced.items()},
                scales=scales(graph.blueprint, given, own),
            )
            outputs = graph.run(graph.blueprint, graph.tables, inputs)
            if outputs is None:
                return None
            rows = [row for row, i in enumerate(graph.taken) if enabled[i]]
            found = Found(graph.blueprint, outputs)
            if found.overflowed(own):
                return None
            solved = solution(found, rows, own, given)
        chosen = tuple(calls[i] for i in on)
        fusion = Fusion(tuple(on), solved, chosen, tuple(weights[i] for i in on))
        return Compilation(fusion, found.ranges)

    def _graph(
        self,
        calls: Sequence[Call],
        tensors: Sequence[Tensor],
        wanted: Sequence[bool],
        masks: list[Tensor],
        *,
        gram: bool,
    ) -> _Graph:
        classes = classes_of(tensors)
        key = classes, tuple(wanted), gram
        last = self._last
        if last is None or last.calls is not calls or last.key != key:
            last = self._last = self._ask(calls, classes, wanted, key)
        masks += last.masks
        asked = last.asked
        situation = Situation([x.shape for x in tensors], [_UNKNOWN] * len(tensors))
        for graph in last.graphs:
            # One that has come to hold what is learned does not belong into a graph any more.
            if graph.blueprint.plan.holds(situation) and not _learned(graph.held):
                return graph
        ready = [
            i
            for i, one in enumerate(asked)
            if isinstance(one, Request)
            or (not _learned(_held(calls[i])) and can_be_traced(calls[i], tensors, wanted))
        ]
        plan = make_plan([asked[i] for i in ready], classes, wanted, situation, gram=gram)
        fields = _fields(plan)
        blueprint = Blueprint(
            plan,
            {i: (asked[ready[i]].tensors, asked[ready[i]].mask) for i in plan.forms},
            fields,
            tuple(x for x, kind in enumerate(classes) if kind >= 0),
        )
        free = {i: ready[i] for i in plan.forms if isinstance(asked[ready[i]], TracedRequest)}
        graph = _Graph(
            blueprint=blueprint,
            tables=make_tables(plan, fields, tensors[0].device, gram=gram),
            run=Runner(self._backend),
            taken=tuple(ready[i] for i in plan.forms),
            traced=free,
            held=tuple(x for position in free.values() for x in _held(calls[position])),
            calls=tuple(calls),
        )
        last.graphs.append(graph)
        return graph

    def _ask(
        self,
        calls: Sequence[Call],
        classes: Sequence[int],
        wanted: Sequence[bool],
        key: Hashable,
    ) -> "_Last":
        masks: list[Tensor] = []
        asked = tuple(_ask(call, masks, classes, wanted) for call in calls)
        return _Last(calls, key, asked, masks, self._graphs.setdefault((asked, key), []))


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


def _check_masks(blueprint: Blueprint, tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    # Here, because an error inside of a graph would be the compiler's.
    for call, form in blueprint.plan.forms.items():
        own, mask = blueprint.arguments[call]
        if mask is not None:
            shape = tensors[own[0]].shape
            check_mask(masks[mask], shape if form.per == "element" else shape[:-1])
