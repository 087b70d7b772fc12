"""What a graph computes: the numbers and total gradients of a plan, from tensors alone.

Arithmetic on numbers is on vectors of them: for every scalar a compiler makes one more buffer, or
computes it anew for every element.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._tables import Tables
from penaltyscope._compiled._traced import Traced, value_and_slopes
from penaltyscope._fused import BY_ROW, Gated, Leaf, Plan, Task, Whole, dropped_rows, masked_share
from penaltyscope._scalar import sum_dtype, wide


class Inputs(NamedTuple):
    """What may change from step to step without another graph."""

    tensors: Sequence[Tensor]
    masks: Sequence[Tensor]
    traced: Mapping[int, Traced]
    """By call, those without a closed form."""
    scales: Tensor
    """``[2, F]``: weights, and what sums and slopes are multiplied with."""


class Outputs(NamedTuple):
    """What a graph returns, for ``F`` calls, ``S`` gradients and ``X`` tensors."""

    total: Tensor
    """0-d, in the blueprint's dtype."""
    numbers: Tensor
    """``[F + SF + S + 1 + 2X]``: values, norms by tensor and call, norms of total gradients, the
    total, and the smallest and largest elements."""
    gram: Tensor | None
    """``[F, F]``, inner products of the weighted gradients."""
    gradients: Sequence[Tensor]
    """Of the total, by the S tensors."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a graph is made for."""

    plan: Plan
    arguments: Mapping[int, tuple[tuple[int, ...], int | None]]
    """Of the calls, tensors and mask."""
    fields: Mapping[int, tuple[int, ...]]
    """By tensor whose gradient is wanted, the fields that it is made of."""
    ranged: tuple[int, ...]
    """The tensors whose extremes are wanted."""
    dtype: torch.dtype
    """Of the total and of the Gram matrix."""


def evaluate(blueprint: Blueprint, tables: Tables, given: Inputs) -> Outputs:
    """Runs a plan."""
    plan, weights = blueprint.plan, given.scales[0]
    # First, because only what is near in order shares a loop.
    ranges = [_extremes(given.tensors[x]) for x in blueprint.ranged]
    vectors = [_walk(task, given, {}) for task in plan.early]
    value, factor, leaves = _settled(blueprint, given, vectors)
    pull = _times(weights, factor)
    gradients: list[Tensor] = []
    for (x, own), table in zip(blueprint.fields.items(), tables.fields, strict=True):
        rows = _matrix(given.tensors[x])
        coefficients = _gated(table.T, pull, sum_dtype(rows))
        leaves |= {Leaf("coefficient", x, f): coefficients[i] for i, f in enumerate(own)}
        gradients.append(torch.empty_like(rows, dtype=sum_dtype(rows)))
        leaves[Leaf("total", x)] = gradients[-1]
    vectors += [_walk(task, given, leaves) for task in plan.main]
    numbers = torch.cat(vectors)
    count, tensors = len(plan.forms), len(blueprint.fields)
    found = _times(tables.matrix, numbers).sum(-1)
    linear, squares, totals = found.split([count, tensors * count, tensors])
    value = value + factor * linear
    norms = squares.view(tensors, count).clamp(min=0).sqrt() * factor.abs()
    # What a weight of 0 kept out of the total was measured all the same.
    norms = torch.where(weights == 0, torch.nan, norms).flatten()
    total = _times(weights, value).sum().to(blueprint.dtype)
    return Outputs(
        total=total,
        numbers=torch.cat(
            [value, norms, totals.clamp(min=0).sqrt(), wide(total).unsqueeze(0), *ranges]
        ),
        gram=_gram(tables, numbers, pull).to(blueprint.dtype) if tables.products else None,
        gradients=gradients,
    )


def _settled(
    blueprint: Blueprint, given: Inputs, vectors: Sequence[Tensor]
) -> tuple[Tensor, Tensor, dict[Leaf, Tensor | Gated]]:
    """``[F]``, values that no main task adds to; ``[F]``, factors; the slopes of wholes."""
    plan = blueprint.plan
    early = {
        place: vector[i]
        for task, vector in zip(plan.early, vectors, strict=True)
        for i, place in enumerate(task.numbers)
    }
    number = torch.arange(len(plan.forms), device=given.scales.device)
    values, factors = torch.zeros_like(given.scales[1]), given.scales[1]
    leaves: dict[Leaf, Tensor | Gated] = {}
    for i, (call, form) in enumerate(plan.forms.items()):
        own, mask = blueprint.arguments[call]
        if isinstance(form, Whole):
            value, slopes = _whole(blueprint, given, call, form)
            # Not stacked: each of them would be a buffer, and most are known.
            values = torch.where(number == i, wide(value), values)
            for x, slope in zip(own, slopes, strict=True):
                if slope is not None:
                    leaves[Leaf("whole", call, x)] = _matrix(slope)
            continue
        if mask is not None and form.reduction == "mean":
            shape = given.tensors[own[0]].shape
            counted = shape if form.per == "element" else shape[:-1]
            share = masked_share(counted, given.masks[mask])
            factors = torch.where(number == i, wide(share), factors)
        if form.settle is not None:
            found = torch.stack([c * early[place] for c, place in plan.sums[call]]).sum()
            value, pull = map(torch.as_tensor, form.settle(found, factors[i]))
            values = torch.where(number == i, wide(value), values)
            factors = torch.where(number == i, wide(pull), factors)
    return values, factors, leaves


def _whole(
    blueprint: Blueprint, given: Inputs, call: int, form: Whole
) -> tuple[Tensor, Sequence[Tensor | None]]:
    own, mask = blueprint.arguments[call]
    tensors = [given.tensors[x] for x in own]
    wanted = [x in blueprint.fields for x in own]
    if call in given.traced:
        return value_and_slopes(given.traced[call], tensors, wanted)
    return form.evaluate(tensors, None if mask is None else given.masks[mask], wanted)


def _walk(task: Task, given: Inputs, leaves: Mapping[Leaf, Tensor | Gated]) -> Tensor:
    """``[k]``, the numbers of a task."""

    def start(leaf: Leaf) -> Tensor | Gated | int:
        if leaf.kind == "rows":
            return _matrix(given.tensors[leaf.of])
        if leaf.kind == "dropped":
            return dropped_rows(given.masks[leaf.of], given.tensors[task.tensor])
        return BY_ROW if leaf.kind == "sums" else leaves[leaf]

    found: list[Tensor] = task.program.run(*map(start, task.program.leaves))
    if all(x.shape == found[0].shape for x in found):  # no set: a hash would make sizes constants
        return wide(torch.stack(found)).sum(-1)
    return torch.stack([wide(x).sum() for x in found])


def _gram(tables: Tables, numbers: Tensor, pull: Tensor) -> Tensor:
    gram = torch.zeros_like(pull).unsqueeze(0)
    for table, places in zip(tables.fields, tables.products, strict=True):
        # C P Cᵀ, as sums over products: what does not count may be NaN.
        half = _times(table.unsqueeze(1), numbers[places]).sum(-1)
        gram = gram + _times(table.unsqueeze(0), half.unsqueeze(1)).sum(-1)
    return _times(pull, _times(pull.unsqueeze(1), gram))


def _gated(table: Tensor, pull: Tensor, dtype: torch.dtype) -> list[Gated]:
    """For each row of a table the coefficient that it makes of the pulls."""
    # Converted before they are added, which is the last that is done to them here: what comes after
    # a sum is done once more for every few elements.
    coefficients = _times(table, pull).to(dtype).sum(-1)
    wide_bits = torch.int64 if dtype == torch.float64 else torch.int32
    bits = ((table != 0) & (pull != 0)).to(wide_bits).neg().amin(-1)
    return [*map(Gated, coefficients.unbind(), bits.unbind())]


def _times(weight: Tensor, x: Tensor) -> Tensor:
    """``weight * x``, and 0 for a weight of 0 whatever ``x`` is."""
    return torch.where(weight == 0, 0.0, weight * x)


def _extremes(x: Tensor) -> Tensor:
    # By rows first, like the sums; NaN spreads to both.
    rows = _matrix(x)
    return wide(torch.stack([rows.amin(-1).amin(), rows.amax(-1).amax()]))


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
