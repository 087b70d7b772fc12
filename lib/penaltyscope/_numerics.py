"""Arithmetic that stays finite, value and derivatives, where the plain formula does not."""

import torch
from torch import Tensor


def accumulator(x: Tensor) -> Tensor:
    """Return ``x`` in the dtype of its sums: float64 as it is, every narrower float as float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Divide vectors by their lengths; zero vectors stay zero, with zero gradient.

    Args:
        x: Vectors ``[..., D]``. One whose squared length overflows comes out as zero.

    Returns:
        The unit vectors ``[..., D]``, and a boolean ``[..., 1]`` that is true for the zero vectors.
    """
    squared = x.square().sum(-1, keepdim=True)
    zero = squared == 0
    # Masked before and after the root: after it alone leaves 0 * inf in the backward pass.
    inverse = squared.masked_fill(zero, 1.0).rsqrt().masked_fill(zero, 0.0)
    return x * inverse, zero


def magnitude(x: Tensor) -> Tensor:
    """Largest absolute value of each vector, ``[..., D]`` to ``[..., 1]``, as a safe divisor.

    It is never 0 or infinite, and carries no gradient. What is computed from ``x / magnitude(x)``
    must not depend on the divisor, as a direction does not; then its derivatives of every order
    are right, and squares neither overflow nor vanish on the way.
    """
    limits = torch.finfo(x.dtype)
    return x.detach().abs().amax(-1, keepdim=True).clamp(limits.tiny, limits.max)


def norm(x: Tensor) -> Tensor:
    """Euclidean length of each vector, ``[..., D]`` to ``[...]``, for elements of any size.

    The gradient at a zero vector is zero.
    """
    if x.shape[-1] == 0:
        return x.sum(-1)
    # √(Σ x²/m) √m: with the divisor halved between the two, no product in the backward pass exceeds
    # the gradient by more than √m, and so none overflows.
    root = magnitude(x).sqrt()
    squared = (x / root).square().sum(-1)
    zero = squared == 0
    return squared.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0) * root.squeeze(-1)
