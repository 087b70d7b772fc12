"""The split engine: every term evaluated once, every term's gradient seen once.

It takes any callable as a penalty. A term whose weight is 0 is kept out of the graph altogether: 0
times NaN is NaN, also in a gradient. A term that is not differentiable gets its tensors as they
are, so that a gradient that it has after all flows, but is not measured.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from penaltyscope import penalties
from penaltyscope._fan import GradientTap, fan
from penaltyscope._weights import weight_tensor
from penaltyscope.result import Layout
from penaltyscope.term import Term

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Plan:
    """What does not change from step to step: which term takes which alias of which tensor."""

    layout: Layout
    distinct: tuple[int, ...]
    """Positions of the inputs that are not the same tensor as an earlier one."""
    fanned: tuple[int, ...]
    """Positions of the distinct inputs that require grad and that a measured term uses."""
    users: tuple[tuple[int, ...], ...]
    """The terms that use each of the fanned inputs."""
    in_graph: tuple[bool, ...]
    arguments: tuple[tuple[tuple[bool, int], ...], ...]
    """For each term its arguments: (True, alias) or (False, input)."""

    @property
    def masked(self) -> bool:
        """Whether some term's contribution is 0 whatever its value."""
        return not all(self.layout.active)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome; ``total`` and what it is made of are differentiable."""

    values: Tensor
    contributions: Tensor
    total: Tensor
    extremes: tuple[tuple[Tensor, Tensor] | None, ...]
    tap: GradientTap | None


def signature(tensors: Sequence[Tensor]) -> tuple[tuple[int, bool], ...]:
    """What a plan depends on: which inputs are the same tensor, and which require grad."""
    ids = [id(x) for x in tensors]
    return tuple((ids.index(i), x.requires_grad) for i, x in zip(ids, tensors, strict=True))


def make_plan(
    terms: Sequence[Term],
    names: Sequence[str],
    same: Sequence[tuple[int, bool]],
    *,
    enabled: Sequence[bool],
    zero: Sequence[bool],
    with_grad: bool,
) -> Plan:
    """Lays out one evaluation.

    Args:
        terms: the pipeline's terms.
        names: the names of its inputs, in the order of their tensors.
        same: the ``signature`` of those tensors.
        enabled: for each term whether it is evaluated.
        zero: for each term whether its weight is exactly 0.
        with_grad: whether autograd records.
    """
    active = [e and not z for e, z in zip(enabled, zero, strict=True)]
    in_graph = [a and with_grad for a in active]
    tapped = [g and term.differentiable for g, term in zip(in_graph, terms, strict=True)]
    position = {name: same[i][0] for i, name in enumerate(names)}
    distinct = sorted({first for first, _ in same})
    users = {
        i: [t for t, term in enumerate(terms) if tapped[t] and i in map(position.get, term.inputs)]
        for i in distinct
        if same[i][1]
    }
    users = {i: ts for i, ts in users.items() if ts}
    aliases = [(t, s) for s, ts in enumerate(users.values()) for t in ts]
    fanned = list(users)

    def argument(t: int, name: str) -> tuple[bool, int]:
        i = position[name]
        if tapped[t] and i in users:
            return True, aliases.index((t, fanned.index(i)))
        return False, i

    return Plan(
        layout=Layout(
            terms=tuple(term.name for term in terms),
            enabled=tuple(enabled),
            active=tuple(active),
            measured=tuple(any(t == a for a, _ in aliases) for t in range(len(terms))),
            inputs=tuple(
                tuple(sorted({distinct.index(position[n]) for n in term.inputs})) for term in terms
            ),
            allows_negative_infinity=tuple(
                penalties.accepts_negative_infinity(term.penalty, term.options) for term in terms
            ),
            aliases=tuple(aliases),
            tensors={n: fanned.index(i) for n, i in position.items() if i in users},
        ),
        distinct=tuple(distinct),
        fanned=tuple(fanned),
        users=tuple(map(tuple, users.values())),
        in_graph=tuple(in_graph),
        arguments=tuple(
            tuple(argument(t, name) for name in term.inputs) for t, term in enumerate(terms)
        ),
    )


def evaluate(
    plan: Plan,
    terms: Sequence[Term],
    tensors: Sequence[Tensor],
    *,
    weights: Sequence[float | Tensor],
    options: Mapping[str, Mapping[str, object]],
    like: Tensor,
    conflict: bool,
) -> Evaluation:
    """Evaluates every enabled term once.

    Args:
        plan: from ``make_plan`` for these terms and tensors.
        terms: the pipeline's terms.
        tensors: its inputs, in the plan's order.
        weights: the terms' weights at this step, numbers or 0-d tensors.
        options: for some terms' names, options that override the term's own in this call.
        like: a tensor whose dtype and device serve when no term is evaluated.
        conflict: whether the backward pass takes inner products of the terms' gradients too.
    """
    tap = GradientTap(terms=len(terms) if conflict else 0) if plan.fanned else None
    aliases: tuple[Tensor, ...] = ()
    if tap is not None:
        gates = [_gate(weights[term]) for term, _ in plan.layout.aliases]
        aliases = fan(tap, [tensors[i] for i in plan.fanned], plan.users, gates)
    values: list[Tensor | None] = []
    for term, arguments, enabled, in_graph in zip(
        terms, plan.arguments, plan.layout.enabled, plan.in_graph, strict=True
    ):
        if not enabled:
            values.append(None)
            continue
        with nullcontext() if in_graph else torch.no_grad():
            chosen = (aliases[i] if alias else tensors[i] for alias, i in arguments)
            value = term.penalty(*chosen, **{**term.options, **options.get(term.name, {})})
        values.append(_checked(term.name, value))
    return _assemble(plan, values, tensors, weights, tap, like)


def _assemble(
    plan: Plan,
    values: Sequence[Tensor | None],
    tensors: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    tap: GradientTap | None,
    like: Tensor,
) -> Evaluation:
    first = next((v for v in values if v is not None), like.detach())
    # `None in values` would compare tensors, at many times the price.
    missing = any(v is None for v in values)
    nan = first.new_full((), _NAN) if missing else first
    stacked = (
        torch.stack([nan if v is None else v for v in values]) if values else first.new_empty(0)
    )
    scale = weight_tensor(weights, stacked)
    contributions = stacked * scale
    if any(isinstance(weight, Tensor) for weight in weights):
        contributions = torch.where(scale == 0, 0.0, contributions)
    if plan.masked:
        active = torch.tensor(plan.layout.active).to(stacked.device, non_blocking=True)
        contributions = torch.where(active, contributions, 0.0)
    total = contributions.sum()
    if tap is not None and total.requires_grad:
        total.register_hook(tap.set_scale)
    return Evaluation(
        values=stacked.detach(),
        contributions=contributions.detach(),
        total=total,
        extremes=tuple(_extremes(tensors[i]) for i in plan.distinct),
        tap=tap,
    )


def _gate(weight: float | Tensor) -> Tensor | None:
    # Only the device knows whether a tensor is 0, and then 0 * NaN must be 0.
    return weight.detach() != 0 if isinstance(weight, Tensor) else None


def _extremes(x: Tensor) -> tuple[Tensor, Tensor] | None:
    # One pass finds NaN (it spreads to both) and both infinities.
    return torch.aminmax(x.detach()) if x.numel() and x.is_floating_point() else None


def _checked(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"penalty of term {name!r} must return a floating-point tensor, got {got}.")
    if value.dim():
        raise ValueError(
            f"penalty of term {name!r} must return a 0-d tensor, got shape {tuple(value.shape)}."
        )
    return value
