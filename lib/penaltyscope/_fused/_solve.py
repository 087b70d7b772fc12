"""From a plan and tensors to values, norms, and the gradients of the weighted total."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._fused._evaluation import Case, Evaluation
from penaltyscope._fused._plan import Plan
from penaltyscope._scalar import Scalar, root, size, times, vector


class Solution(NamedTuple):
    """What the calls of a plan evaluate to; without a graph."""

    values: Sequence[Scalar]
    """``F``, unweighted."""
    total: Scalar
    """The sum of contributions; calls of weight 0 do not count."""
    dtype: torch.dtype
    """That of values and total, were they tensors."""
    gradients: Mapping[int, Tensor]
    """By tensor, in its shape and in the dtype of its sums: the gradient of ``total``."""
    norms: Mapping[tuple[int, int], Scalar]
    """By call (its number among the ``F``) and tensor, of the unweighted gradient where one is."""
    total_norms: Mapping[int, Scalar]
    """By tensor, norm of the gradient of ``total``."""
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
    used = [case.tensors[x] for x in plan.used]
    dtype = torch.float64 if torch.float64 in [x.dtype for x in used] else torch.float32
    total: Scalar = 0.0
    for call in plan.forms:
        total = total + times(case.weights[call], done.values[call])
    return Solution(
        values=[done.values[call] for call in plan.forms],
        total=total,
        dtype=dtype,
        gradients={x: _shaped(g, case.tensors[x].shape) for x, g in done.totals.items()},
        norms=_norms(done, plan),
        total_norms={x: root(done.numbers[place]) for x, place in plan.squares.items()},
        gram=_gram(done, plan, used[0].new_empty(0, dtype=dtype)) if gram else None,
    )


def _shaped(rows: Tensor, shape: torch.Size) -> Tensor:
    return rows if len(shape) == 2 else rows.view(shape)


def _norms(done: Evaluation, plan: Plan) -> dict[tuple[int, int], Scalar]:
    weights, factors = done.case.weights, done.factors
    norms: dict[tuple[int, int], Scalar] = {}
    for key, (call, _, _, square) in zip(plan.sloped, plan.slopes, strict=True):
        norm = root(done.sum(square)) * size(factors[call])
        weight = weights[call]
        if isinstance(weight, Tensor):
            # What a weight of 0 kept out of the total was measured all the same.
            norm = torch.where(weight == 0, math.nan, norm)
        norms[key] = norm
    return norms


def _gram(done: Evaluation, plan: Plan, like: Tensor) -> Tensor:
    row, count = {call: i for i, call in enumerate(plan.forms)}, len(plan.forms)
    gram: list[Scalar] = [0.0] * count**2
    for a, b in combinations_with_replacement(plan.slopes, 2):
        if a.tensor != b.tensor:
            continue
        inner: Scalar = 0.0
        for (c, f), (d, g) in product(a.parts, b.parts):
            inner = inner + c * d * done.numbers[plan.products[a.tensor, f, g]]
        for slope in (a, b):
            inner = times(done.case.weights[slope.call], done.factors[slope.call] * inner)
        i, j = row[a.call], row[b.call]
        gram[i * count + j] = gram[j * count + i] = gram[i * count + j] + inner
    return vector(gram, like).view(count, count)
