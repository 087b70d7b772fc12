"""What goes into a graph and comes out of it, as the numbers that they are."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from penaltyscope._compiled._graph import Blueprint, Outputs
from penaltyscope._fused import Form, Solution
from penaltyscope._scalar import Extremes, Scalar, constants, on_host, vector


def scales(
    blueprint: Blueprint, tensors: Sequence[Tensor], weights: Sequence[float | Tensor]
) -> Tensor:
    """``[2, F]``, weights and shares; not to be changed in place."""
    like = tensors[0].new_empty(0, dtype=torch.float64)
    shares = tuple(_share(blueprint, tensors, call) for call in blueprint.plan.forms)
    if any(isinstance(weight, Tensor) for weight in weights):
        known = [w.detach() if isinstance(w, Tensor) else w for w in weights]
        return torch.stack([vector(known, like), vector(shares, like)])
    return constants((*weights, *shares), torch.float64, like.device).view(2, -1)


class Found:
    """The numbers of a graph: on the host where reading them waits for nothing."""

    def __init__(self, blueprint: Blueprint, outputs: Outputs) -> None:
        numbers = outputs.numbers
        parts: Iterator[Scalar] = iter(
            numbers.numpy().tolist() if on_host(numbers) else numbers.unbind()
        )
        count = len(blueprint.plan.forms)
        self.blueprint = blueprint
        self.outputs = outputs
        self.values = [next(parts) for _ in range(count)]
        self.norms = {x: [next(parts) for _ in range(count)] for x in blueprint.fields}
        self.total_norms = {x: next(parts) for x in blueprint.fields}
        self.total = next(parts)
        self.ranges: Mapping[int, Extremes] = {
            x: (next(parts), next(parts)) for x in blueprint.ranged
        }

    def overflowed(self, weights: Sequence[float | Tensor]) -> bool:
        """Whether finite tensors have led to a norm that is not; on the host only."""
        if not on_host(self.outputs.numbers):
            return False
        return all(map(_finite, (x for pair in self.ranges.values() for x in pair))) and not all(
            isinstance(weight, Tensor) or weight == 0 or _finite(norm)
            for norms in self.norms.values()
            for weight, norm in zip(weights, norms, strict=True)
        )


def solution(
    found: Found,
    rows: Sequence[int],
    weights: Sequence[float | Tensor],
    tensors: Sequence[Tensor],
) -> Solution:
    """The answer for some of the calls.

    Args:
        found: what the graph returned.
        rows: the calls by number.
        weights: of all calls; one whose weight is the number 0 has no norm.
        tensors: that the graph was given.
    """
    plan, outputs = found.blueprint.plan, found.outputs
    number = {call: i for i, call in enumerate(plan.forms)}
    sloped = {(number[slope.call], slope.tensor) for slope in plan.slopes}
    used = {x for own, _ in found.blueprint.arguments.values() for x in own}
    double = any(tensors[x].dtype == torch.float64 for x in used)
    dtype = torch.float64 if double else torch.float32
    pairs = zip(found.blueprint.fields, outputs.gradients, strict=True)
    gram = outputs.gram
    if gram is not None and len(rows) < len(number):
        chosen = torch.tensor(rows, device=gram.device)
        gram = gram[chosen[:, None], chosen]
    return Solution(
        values=[found.values[i] for i in rows],
        total=found.total,
        dtype=dtype,
        gradients={x: g.view(tensors[x].shape) for x, g in pairs},
        norms={
            (row, x): norms[i]
            for row, i in enumerate(rows)
            for x, norms in found.norms.items()
            if (i, x) in sloped and (isinstance(weights[i], Tensor) or weights[i] != 0)
        },
        total_norms=found.total_norms,
        gram=None if gram is None else gram.to(dtype),
    )


def _share(blueprint: Blueprint, tensors: Sequence[Tensor], call: int) -> float:
    form, (own, mask) = blueprint.plan.forms[call], blueprint.arguments[call]
    if not isinstance(form, Form) or form.reduction != "mean" or mask is not None:
        return 1.0
    shape = tensors[own[0]].shape
    return 1.0 / math.prod(shape if form.per == "element" else shape[:-1])


def _finite(x: Scalar) -> bool:
    return isinstance(x, Tensor) or math.isfinite(x)
