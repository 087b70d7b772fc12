"""The split engine: every term evaluated once, every term's gradient seen once.

It takes any callable as a penalty. A term whose weight is 0 is kept out of the graph altogether: 0
times NaN is NaN, also in a gradient. A term that is not differentiable gets its tensors as they
are, so that a gradient that it has after all flows, but is not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from penaltyscope._fan import TOGETHER, GradientTap, fan
from penaltyscope._over_parameters import Measured
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


@dataclass(slots=True)
class _Kept:
    """The last weights, all of them numbers, and what was made of them."""

    weights: Sequence[float | Tensor] = ()
    scale: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change from step to step: which term takes which alias of which tensor."""

    parts: tuple[Part, ...]
    fanned: tuple[int, ...]
    """The tensors that require grad and that a measured term uses."""
    users: tuple[tuple[int, ...], ...]
    """The terms that use each of them, and ``TOGETHER`` where others do too."""
    arguments: tuple[tuple[int, ...], ...]
    """For each part its arguments, by number among the aliases and, after them, the tensors."""
    together: tuple[int, ...]
    """For every tensor what the others are to take for it, likewise."""
    terms: tuple[int, ...]
    """Those of the parts."""
    all_active: bool
    kept: "_Kept" = field(default_factory=_Kept)

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:
        """(term, tensor) of each norm that the tap takes of an alias, in its order."""
        pairs = zip(self.fanned, self.users, strict=True)
        return tuple((term, x) for x, users in pairs for term in users if term != TOGETHER)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome."""

    values: Tensor
    """``[P]`` by part, unweighted; and one more of the probe."""
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

    def given(x: int, user: int) -> int:
        return alias.get((x, user), len(alias) + x)

    return Plan(
        parts=tuple(parts),
        fanned=tuple(users),
        users=tuple(users.values()),
        arguments=tuple(
            tuple(given(x, part.term) if part.tapped else len(alias) + x for x in part.tensors)
            for part in parts
        ),
        together=tuple(given(x, TOGETHER) for x in range(len(requires_grad))),
        terms=tuple(part.term for part in parts),
        all_active=all(part.active for part in parts),
    )


def fan_out(
    plan: Plan, tap: GradientTap, tensors: Sequence[Tensor], weights: Sequence[float | Tensor]
) -> tuple[Sequence[Tensor], Tensor]:
    """The aliases that the plan's arguments name, and the probe; weights are by term."""
    gates: list[list[Tensor | None]] = []
    if _any_learns(weights):
        gates = [
            [None if user == TOGETHER else _gate(weights[user]) for user in own]
            for own in plan.users
        ]
    return fan(tap, [tensors[x] for x in plan.fanned], plan.users, gates)


def evaluate(
    plan: Plan,
    terms: Sequence[Term],
    pool: Sequence[Tensor],
    probe: Tensor | None,
    known: Mapping[int, Measured],
    *,
    weights: Sequence[float | Tensor],
    options: Mapping[str, Mapping[str, object]],
) -> Evaluation:
    """Evaluates every part once; there is at least one.

    Args:
        plan: from ``make_plan``.
        terms: all of the pipeline's terms.
        pool: the aliases that ``fan_out`` made, and after them the distinct tensors.
        probe: from ``fan_out``, if there are aliases.
        known: by term, those that were evaluated before.
        weights: all terms' weights at this step, numbers or 0-d tensors.
        options: for some terms' names, options that override the term's own in this call.
    """
    values = []
    for part, arguments in zip(plan.parts, plan.arguments, strict=True):
        term = terms[part.term]
        given = [pool[i] for i in arguments]
        chosen = {**term.options, **options.get(term.name, {})} if options else term.options
        if part.term in known:
            value = known[part.term].value
        elif part.in_graph:
            value = term.penalty(*given, **chosen)
        else:
            with torch.no_grad():
                value = term.penalty(*given, **chosen)
        if type(value) is not Tensor or value.dim() or not value.is_floating_point():
            _check(term.name, value)
        values.append(value)
    if probe is not None:
        # Not in a narrower dtype than their sum: a loss scale would be infinite there.
        if probe.dtype != values[0].dtype:
            probe = probe.to(reduce(torch.promote_types, [value.dtype for value in values]))
        values.append(probe)
    stacked = torch.stack(values)
    return Evaluation(values=stacked, total=_total(plan, stacked, weights))


def _total(plan: Plan, values: Tensor, weights: Sequence[float | Tensor]) -> Tensor:
    kept = plan.kept
    scale = kept.scale if weights is kept.weights else None
    if scale is not None and type(values) is Tensor and _alike(values, scale):
        return torch.dot(values, scale)
    probes = len(values) - len(plan.terms)
    own = [*[weights[term] for term in plan.terms], *[1.0] * probes]
    scale = weight_tensor(own, values)
    learned = _any_learns(own)
    if plan.all_active and not learned:
        if type(values) is Tensor and not torch.compiler.is_compiling():
            kept.weights, kept.scale = weights, scale
        return torch.dot(values, scale)
    if learned:  # before the product, whose gradient by the weight is the value
        values = torch.where(scale == 0, 0.0, values)
    contributions = values * scale
    if not plan.all_active:
        flags = [*[part.active for part in plan.parts], *[True] * probes]
        contributions = torch.where(constant(flags, torch.bool, values), contributions, 0.0)
    return contributions.sum()


def _gate(weight: float | Tensor) -> Tensor | None:
    # Only the device knows whether a tensor is 0, and then 0 * NaN must be 0.
    return weight.detach() != 0 if isinstance(weight, Tensor) else None


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.dtype is b.dtype and a.device == b.device


def _any_learns(weights: Sequence[float | Tensor]) -> bool:
    return any(issubclass(kind, Tensor) for kind in set(map(type, weights)))


def _check(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"penalty of term {name!r} must return a floating-point tensor, got {got}.")
    if value.dim():
        raise ValueError(
            f"penalty of term {name!r} must return a 0-d tensor, got shape {tuple(value.shape)}."
        )
