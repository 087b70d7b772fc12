"""Gradients on their own, outside a training step: norms, shares and conflicts of terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penaltyscope._norm import norm, together


def gradient_norm(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Euclidean norm of the gradient of ``fn`` at ``x``, 0-d and without a graph.

    Args:
        fn: from a tensor to a tensor; one with elements is summed, as autograd does for a scalar.
        x: floating point, any shape; neither it nor its ``grad`` is changed.

    Raises:
        TypeError: ``x`` is not a floating-point tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, got {got}.")
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = fn(leaf)
        if not value.requires_grad:
            return x.new_zeros(())
        (gradient,) = torch.autograd.grad(value.sum(), leaf, materialize_grads=True)
    return norm(gradient)


@dataclass(frozen=True, slots=True)
class TermGradients:
    """How strongly, and how much against each other, the terms of a pipeline pull on its inputs.

    A term that is disabled or not differentiable has NaN; one with weight 0 is measured.
    """

    terms: tuple[str, ...]
    norms: Tensor
    """``[T]``, unweighted, over all inputs together, or over a term's own parameters."""
    norms_by_input: Mapping[str, Tensor]
    """For each floating-point input its part of ``norms``, ``[T]``."""
    total_norm: Tensor
    """0-d, norm of the weighted sum of gradients by the inputs."""
    shares: Tensor
    """``[T]``, each term's part of the sum of weighted norms."""
    conflict: Tensor
    """``[T, T]``, cosines between the weighted gradients: -1 where two terms pull apart exactly.

    NaN for a term without a gradient.
    """


def shares(weights: Tensor, norms: Tensor) -> Tensor:
    """``[T]``: each term's part of the sum of weighted norms; a term without a norm counts 0."""
    weighted = (weights * norms).abs().nan_to_num(nan=0.0)
    return weighted / weighted.sum().clamp_min(torch.finfo(weighted.dtype).tiny)


def cosines(gram: Tensor) -> Tensor:
    """``[T, T]`` cosines from inner products; NaN for a vector of length 0, or not measured."""
    lengths = gram.diagonal().sqrt()
    return (gram / lengths[:, None] / lengths[None, :]).clamp(-1, 1)


def term_gradients(
    terms: Sequence[str],
    values: Sequence[Tensor | None],
    weights: Tensor,
    inputs: Mapping[str, Tensor],
    own: Mapping[int, Tensor],
) -> TermGradients:
    """Differentiates each value by all inputs.

    Args:
        terms: names, ``T``.
        values: for each term its value, or None for one that has no gradient.
        weights: ``[T]``.
        inputs: leaves that require grad, by name; a tensor may stand under several names.
        own: for some terms, 0-d, the norm of the gradient by what is no input.
    """
    leaves = list({id(x): x for x in inputs.values()}.values())
    gradients = [_gradients(value, leaves) for value in values]
    count = len(terms)
    norms = weights.new_full((len(leaves), count), torch.nan)
    gram = weights.new_zeros((count, count))
    totals = []
    for i in range(len(leaves)):
        rows = [None if g is None else g[i].flatten().to(weights) for g in gradients]
        pulls = [w * r for w, r in zip(weights, rows, strict=True) if r is not None and w != 0]
        totals.append(torch.stack(pulls).sum(0) if pulls else weights.new_zeros(1))
        for t, row in enumerate(rows):
            if row is not None:
                norms[i, t] = norm(row)
        matrix = torch.stack(
            [torch.full_like(totals[i], torch.nan) if r is None else r for r in rows]
        )
        gram += matrix @ matrix.T
    position = {id(leaf): i for i, leaf in enumerate(leaves)}
    whole = together(norms, dim=0).to(norms.dtype)
    for t, apart in own.items():
        whole[t] = torch.hypot(whole[t], apart)
    signs = weights.sign()
    return TermGradients(
        terms=tuple(terms),
        norms=whole,
        norms_by_input={name: norms[position[id(x)]] for name, x in inputs.items()},
        total_norm=norm(torch.cat(totals)) if totals else weights.new_zeros(()),
        shares=shares(weights, whole),
        conflict=cosines(gram) * signs[:, None] * signs[None, :],
    )


def _gradients(value: Tensor | None, leaves: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    if value is None:
        return None
    if not value.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
