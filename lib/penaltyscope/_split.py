"""The split engine: every term evaluated once, every term's gradient seen once.

It takes any callable as a penalty. A term whose weight is 0 is kept out of the graph altogether: 0
times NaN is NaN, also in a gradient. A term that is not differentiable gets its tensors as they
are, so that a gradient that it has after all flows, but is not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penaltyscope._fan import TOGETHER, GradientTap, fan
from penaltyscope._weights import constant, weight_tensor
from penaltyscope.term import Term


@dataclass(frozen=True, slots=True)
class Part:
    """What a term needs to know, apart from its penalty."""

    term: int
    """Its number in the pipeline."""
    tensors: tuple[int, ...]
    """Its arguments, by number among the distinct tensors of the evaluation."""
    active: bool
    """Whether it counts in the total."""
    in_graph: bool
    tapped: bool
    """Whether its gradient is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change from step to step: which term takes which alias of which tensor."""

    parts: tuple[Part, ...]
    fanned: tuple[int, ...]
    """The tensors that require grad and that a measured term uses."""
    users: tuple[tuple[int, ...], ...]
    """The terms that use each of them, and ``TOGETHER`` where others do too."""
    arguments: tuple[tuple[tuple[bool, int], ...], ...]
    """For each part its arguments: (True, alias) or (False, tensor)."""
    together: tuple[tuple[bool, int], ...]
    """For every tensor what the others are to take for it."""

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:
        """(term, tensor) of each norm that the tap takes of an alias, in its order."""
        pairs = zip(self.fanned, self.users, strict=True)
        return tuple((term, x) for x, users in pairs for term in users if term != TOGETHER)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome."""

    values: Tensor
    """``[P]`` by part, unweighted, without a graph."""
    total: Tensor
    """0-d, differentiable: the sum of contributions."""


def make_plan(parts: Sequence[Part], requires_grad: Sequence[bool], others: frozenset[int]) -> Plan:
    """Lays out one evaluation.

    Args:
        parts: the terms that are evaluated.
        requires_grad: for each tensor.
        others: the tensors of which something else is a function too, with a gradient.
    """
    users: dict[int, tuple[int, ...]] = {}
    for x, wanted in enumerate(requires_grad):
        own = tuple(part.term for part in parts if part.tapped and x in part.tensors)
        if wanted and own:
            users[x] = (*own, TOGETHER) if x in others else own
    alias = {key: i for i, key in enumerate((x, user) for x, own in users.items() for user in own)}

    def given(x: int, user: int) -> tuple[bool, int]:
        return (True, alias[x, user]) if (x, user) in alias else (False, x)

    return Plan(
        parts=tuple(parts),
        fanned=tuple(users),
        users=tuple(users.values()),
        arguments=tuple(
            tuple(given(x, part.term) if part.tapped else (False, x) for x in part.tensors)
            for part in parts
        ),
        together=tuple(given(x, TOGETHER) for x in range(len(requires_grad))),
    )


def fan_out(
    plan: Plan, tap: GradientTap, tensors: Sequence[Tensor], weights: Sequence[float | Tensor]
) -> tuple[Tensor, ...]:
    """The aliases that the plan's arguments name; weights are by term."""
    if not plan.fanned:
        return ()
    gates: list[Tensor | None] = []
    if any(isinstance(weight, Tensor) for weight in weights):
        gates = [
            None if user == TOGETHER else _gate(weights[user]) for own in plan.users for user in own
        ]
    return fan(tap, [tensors[x] for x in plan.fanned], plan.users, gates)


def evaluate(
    plan: Plan,
    terms: Sequence[Term],
    tensors: Sequence[Tensor],
    aliases: Sequence[Tensor],
    *,
    weights: Sequence[float | Tensor],
    options: Mapping[str, Mapping[str, object]],
) -> Evaluation:
    """Evaluates every part once; there is at least one.

    Args:
        plan: from ``make_plan``.
        terms: all of the pipeline's terms.
        tensors: distinct, as the parts number them.
        aliases: what ``fan_out`` made of them.
        weights: all terms' weights at this step, numbers or 0-d tensors.
        options: for some terms' names, options that override the term's own in this call.
    """
    values = []
    for part, arguments in zip(plan.parts, plan.arguments, strict=True):
        term = terms[part.term]
        given = [aliases[i] if alias else tensors[i] for alias, i in arguments]
        chosen = {**term.options, **options.get(term.name, {})} if options else term.options
        if part.in_graph:
            value = term.penalty(*given, **chosen)
        else:
            with torch.no_grad():
                value = term.penalty(*given, **chosen)
        values.append(_checked(term.name, value))
    stacked = torch.stack(values)
    own = [weights[part.term] for part in plan.parts]
    scale = weight_tensor(own, stacked)
    contributions = stacked * scale
    if any(isinstance(weight, Tensor) for weight in own):
        contributions = torch.where(scale == 0, 0.0, contributions)
    if not all(part.active for part in plan.parts):
        active = constant([part.active for part in plan.parts], torch.bool, stacked)
        contributions = torch.where(active, contributions, 0.0)
    return Evaluation(values=stacked.detach(), total=contributions.sum())


def _gate(weight: float | Tensor) -> Tensor | None:
    # Only the device knows whether a tensor is 0, and then 0 * NaN must be 0.
    return weight.detach() != 0 if isinstance(weight, Tensor) else None


def _checked(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"penalty of term {name!r} must return a floating-point tensor, got {got}.")
    if value.dim():
        raise ValueError(
            f"penalty of term {name!r} must return a 0-d tensor, got shape {tuple(value.shape)}."
        )
    return value
