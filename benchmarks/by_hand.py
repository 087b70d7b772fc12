"""What the split engine finds, written by hand for one step: as little as it can cost.

One alias of the tensor for every term, whose gradients are measured where they come together, and
the range of every input. Nothing is checked, named, kept or switched off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import penaltyscope as ps


class _Fan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, norms: list[float], aliases: int, x: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.norms = norms
        return (x,) * aliases

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        total = gradients[0] + gradients[1]
        for gradient in gradients[2:]:
            total.add_(gradient)
        found = torch._foreach_norm([*gradients, total])
        ctx.norms += [norm.tolist() for norm in found]
        return None, None, total


def step(
    terms: Sequence[ps.Term], weights: Tensor, tensors: Mapping[str, Tensor], fanned: str
) -> list[float]:
    """Evaluates the terms and differentiates their weighted sum by one tensor.

    Args:
        terms: at least two, all of them functions of that tensor.
        weights: ``[T]``.
        tensors: by name.
        fanned: the name of the tensor.

    Returns:
        Smallest and largest element of each tensor, the values, and the norms of the weighted
        gradients and of their sum.
    """
    ranges = [torch.aminmax(x.detach()) for x in tensors.values()]
    numbers: list[Any] = [x.tolist() for pair in ranges for x in pair]
    norms: list[float] = []
    aliases: tuple[Tensor, ...] = _Fan.apply(norms, len(terms), tensors[fanned])  # type: ignore[no-untyped-call]
    values = []
    for term, alias in zip(terms, aliases, strict=True):
        given = [alias if name == fanned else tensors[name] for name in term.inputs]
        values.append(term.penalty(*given, **term.options))
    stacked = torch.stack(values)
    torch.dot(stacked, weights).backward()
    return [*numbers, *stacked.tolist(), *norms]
