"""What one graph computes: the numbers and total gradients of a plan, from tensors alone.

Arithmetic on numbers is on vectors of them: for every scalar a compiler makes one more buffer, or
computes it anew for every element.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._tables import Tables
from penaltyscope._fused import Form, Leaf, Plan, Task, dropped_rows, sum_dtype, wide
from penaltyscope.penalties._reduction import check_mask


class Traced(NamedTuple):
    """A call without a closed form; a graph takes what its options hold as input."""

    penalty: Callable[..., Tensor]
    options: Mapping[str, Any]


class Inputs(NamedTuple):
    """What may change from step to step without another graph."""

    tensors: Sequence[Tensor]
    masks: Sequence[Tensor]
    traced: Mapping[int, Traced]
    """By call."""
    scales: Tensor
    """``[3, F]``: weights; what sums are multiplied with; NaN where disabled, else 0."""


class Outputs(NamedTuple):
    """What a graph returns, for ``F`` calls and ``S`` tensors whose gradient is wanted."""

    numbers: Tensor
    """``[F + SF + S + 1]``: values, norms by tensor and call, norms of totals, and the total."""
    gram: Tensor | None
    """``[F, F]``, inner products of the weighted gradients."""
    gradients: Sequence[Tensor]
    """Of the total, by the S tensors."""
    extremes: Sequence[tuple[Tensor, Tensor]]
    """Smallest and largest element of each tensor."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a graph is made for."""

    plan: Plan
    arguments: Mapping[int, tuple[tuple[int, ...], int | None]]
    """Of the calls, tensors and mask."""
    fields: Mapping[int, Sequence[int]]
    """By tensor whose gradient is wanted, the fields that it is made of."""
    precise: bool
    """Whether sums of squares may leave the range of float32."""


def evaluate(blueprint: Blueprint, tables: Tables, given: Inputs) -> Outputs:
    """Runs a plan."""
    plan, (weights, shares, muted) = blueprint.plan, given.scales.unbind()
    vectors = [_walk(blueprint, task, given, {}) for task in plan.early]
    early = {
        place: vector[i]
        for task, vector in zip(plan.early, vectors, strict=True)
        for i, place in enumerate(task.numbers)
    }
    values, factors = [*tables.matrix.new_zeros(len(plan.forms)).unbind()], [*shares.unbind()]
    leaves: dict[Leaf, Tensor] = {}
    for i, (call, form) in enumerate(plan.forms.items()):
        if isinstance(form, Form):
            factors[i] = _factor(blueprint, given, call, form, factors[i])
            if form.settle is not None:
                found = torch.stack([c * early[place] for c, place in plan.sums[call]]).sum()
                values[i], factors[i] = form.settle(found, factors[i])  # type: ignore[assignment]
        else:
            values[i], slopes = _whole(blueprint, given, call)
            leaves |= slopes
    factor, value = torch.stack(factors), torch.stack([wide(v) for v in values])
    pull = torch.where(weights == 0, 0.0, weights * factor)
    for x, fields, table in zip(blueprint.fields, blueprint.fields.values(), tables.fields, strict=True):
        coefficients = _combined(table.T, pull)
        leaves |= {Leaf("coefficient", x, f): coefficients[i] for i, f in enumerate(fields)}
        rows = _matrix(given.tensors[x])
        leaves[Leaf("total", x)] = torch.empty_like(rows, dtype=sum_dtype(rows))
    vectors += [_walk(blueprint, task, given, leaves) for task in plan.main]
    numbers = torch.cat(vectors)
    F, S = len(plan.forms), len(blueprint.fields)
    found = _combined(tables.matrix, numbers) + tables.offset
    linear, squares, totals = found.split([F, S * F, S])
    value = value + factor * linear
    norms = squares.view(S, F).clamp(min=0).sqrt() * factor.abs()
    norms = torch.where(weights == 0, torch.nan, norms)
    total = torch.where(weights == 0, 0.0, weights * value).sum()
    gram = None
    if tables.products:
        gram = torch.zeros_like(tables.matrix[:F,:1])
        for table, places in zip(tables.fields, tables.products, strict=True):
            half = _combined(table.unsqueeze(1), numbers[places])   # [F,1,m] * [m,m] -> [F,m]
            gram = gram + _combined(table.unsqueeze(0), half.unsqueeze(1))  # [1,F,m]*[F,1,m] -> [F,F]
        gram = torch.where((pull==0) | (pull==0)[:,None], 0.0, gram * pull * pull[:, None])
    row = torch.cat([value + muted, norms.flatten(), totals.clamp(min=0).sqrt(), total[None]])
    return Outputs(row, gram, [leaves[Leaf("total", x)] for x in blueprint.fields], [extremes(x) for x in given.tensors])

def extremes(x):
    rows = x.reshape(-1, x.shape[-1])
    return rows.amin(-1).amin(), rows.amax(-1).amax()

def _factor(blueprint, given, call, form, share):
    own, mask = blueprint.arguments[call]
    if mask is None or form.reduction != "mean":
        return share
    raise NotImplementedError

def _whole(blueprint, given, call):
    own, mask = blueprint.arguments[call]
    chosen = [given.tensors[x] for x in own]
    wanted = [x in blueprint.fields for x in own]
    value, slopes = blueprint.plan.forms[call].evaluate(chosen, None if mask is None else given.masks[mask], wanted)
    return value, {Leaf("whole", call, x): s.reshape(_matrix(given.tensors[x]).shape) for x, s in zip(own, slopes) if s is not None}

def _combined(matrix, vector):
    return torch.where(matrix == 0, 0.0, matrix * vector).sum(-1)

def _matrix(x):
    return x.reshape(-1, x.shape[-1])

def _walk(b, task, given, leaves):
    def leaf(l):
        if l.kind == "rows": return _matrix(given.tensors[l.of])
        if l.kind == "dropped": return dropped_rows(given.masks[l.of], given.tensors[task.tensor])
        if l.kind == "precise": return b.precise
        return leaves[l]
    found = task.program.run(*[leaf(l) for l in task.program.leaves])
    if len({x.shape for x in found}) == 1:
        return wide(torch.stack(found)).sum(-1)
    return torch.stack([wide(x).sum() for x in found])
