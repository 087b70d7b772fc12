"""From a plan and tensors to values, norms, and the gradients of the weighted total."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from penaltyscope._fused._evaluation import Case, Evaluation
from penaltyscope._fused._plan import Plan
from penaltyscope._fused._scalar import Scalar, root, size, times, vector


@dataclass(frozen=True, slots=True)
class Solution:
    """What the calls of a plan evaluate to; tensors without a graph."""

    values: Tensor
    """``[F]``, unweighted."""
    total: Tensor
    """0-d, the sum of contributions; calls of weight 0 do not count."""
    gradients: Mapping[int, Tensor]
    """By tensor, in its shape and in the dtype of its sums: the gradient of ``total``."""
    norms: Mapping[int, Tensor]
    """By tensor ``[F]``, norms of the calls' unweighted gradients; NaN where there is none."""
    total_norms: Mapping[int, Tensor]
    """By tensor, 0-d norm of the gradient of ``total``."""
    gram: Tensor | None
    """``[F, F]``, inner products of the weighted gradients over all tensors, if asked for."""


def solve(plan: Plan, case: Case, *, gram: bool) -> Solution:
    """Evaluates the calls that a plan takes.

    Args:
        plan: made for a case like this one.
        case: calls and tensors.
        gram: whether the plan has the inner products of all slopes.
    """
    done = Evaluation(case, plan)
    used = [case.tensors[x] for call in plan.forms for x in case.requests[call].tensors]
    double = any(x.dtype == torch.float64 for x in used)
    like = used[0].new_empty(0, dtype=torch.float64 if double else torch.float32)
    values = [done.values[call] for call in plan.forms]
    total: Scalar = 0.0
    for call, value in zip(plan.forms, values, strict=True):
        total = total + times(case.weights[call], value)
    norms = _norms(done, plan)
    totals = [total, *(root(done.numbers[place]) for place in plan.squares.values())]
    # One tensor for all numbers, because making one costs as much as an operation on a block.
    parts = [values, *norms.values(), totals]
    found = vector([x for part in parts for x in part], like).split([len(p) for p in parts])
    whole, *total_norms = found[-1].unbind()
    return Solution(
        values=found[0],
        total=whole,
        gradients={x: g.view(case.tensors[x].shape) for x, g in done.totals.items()},
        norms=dict(zip(norms, found[1:-1], strict=True)),
        total_norms=dict(zip(plan.squares, total_norms, strict=True)),
        gram=_gram(done, plan, like) if gram else None,
    )


def _norms(done: Evaluation, plan: Plan) -> dict[int, list[Scalar]]:
    row = {call: i for i, call in enumerate(plan.forms)}
    norms: dict[int, list[Scalar]] = {x: [math.nan] * len(row) for x in plan.squares}
    for call, x, _, square in plan.slopes:
        norm = root(done.sum(square)) * size(done.factors[call])
        weight = done.case.weights[call]
        if isinstance(weight, Tensor):
            # What a weight of 0 kept out of the total was measured all the same.
            norm = torch.where(weight == 0, math.nan, norm)
        norms[x][row[call]] = norm
    return norms


def _gram(done: Evaluation, plan: Plan, like: Tensor) -> Tensor:
    row = {call: i for i, call in enumerate(plan.forms)}
    gram: list[list[Scalar]] = [[0.0] * len(row) for _ in row]
    for a, b in product(plan.slopes, repeat=2):
        if a.tensor != b.tensor:
            continue
        inner: Scalar = 0.0
        for (c, f), (d, g) in product(a.parts, b.parts):
            inner = inner + c * d * done.numbers[plan.products[a.tensor, f, g]]
        for slope in (a, b):
            inner = times(done.case.weights[slope.call], done.factors[slope.call] * inner)
        i, j = row[a.call], row[b.call]
        gram[i][j] = gram[i][j] + inner
    return torch.stack([vector(each, like) for each in gram])
