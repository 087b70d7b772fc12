"""Penalties on the slope of a function: how far its gradient's norm is from a target.

They differentiate a gradient, so they cost about as much as two further backward passes through
``fn``: apply them every few steps, or use ``output_magnitude_penalty`` where a proxy will do.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from penaltyscope._numerics import accumulator, norm
from penaltyscope.penalties._arguments import check_floating, number, same_shape


def gradient_penalty(
    fn: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    target_norm: float = 1.0,
    per_sample: bool = False,
) -> Tensor:
    """``(‖∇fn(x)‖ - target_norm)²``; where the gradient vanishes, this penalty's own gradient is 0.

    Args:
        fn: From ``x`` to a number, or to one number per sample; these are summed.
        x: Any shape; ``[B, ...]`` with ``per_sample``. It need not require grad: the penalty is
            differentiable with respect to whatever ``fn`` computes with.
        target_norm: The slope that costs nothing, at least 0.
        per_sample: One norm for each ``x[b]``, and the mean of the penalties, as in WGAN-GP; else
            one norm for all of ``x``.

    Returns:
        A 0-d tensor, at least 0.

    Raises:
        ValueError: If the result of ``fn`` cannot be differentiated.

    Reference:
        Gulrajani et al., "Improved training of Wasserstein GANs", 2017.
    """
    number("target_norm", target_norm, low=0.0)
    check_floating("x", x)
    if per_sample and x.dim() == 0:
        raise ValueError("x must have a dimension of samples for per_sample, got a 0-d tensor.")
    slope = accumulator(_input_gradient(fn, x))
    if not per_sample:
        return (norm(slope.flatten()) - target_norm).square()
    samples = slope.reshape(x.shape[0], math.prod(x.shape[1:]))
    penalties = (norm(samples) - target_norm).square()
    return penalties.sum() / max(x.shape[0], 1)


def interpolated_gradient_penalty(
    fn: Callable[[Tensor], Tensor],
    x: Tensor,
    reference: Tensor,
    *,
    target_norm: float = 1.0,
    per_sample: bool = False,
    epsilon: float | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``gradient_penalty`` at ``epsilon * x + (1 - epsilon) * reference``, a point between the two.

    Args:
        fn: The critic.
        x: One end, of any shape (the generated samples, in WGAN-GP).
        reference: The other end (the real samples): the same shape, or one that broadcasts to it.
        target_norm: The slope that costs nothing, at least 0.
        per_sample: One norm, and one random ``epsilon``, for each sample.
        epsilon: Share of ``x``, from 0 to 1: a number, or a tensor whose shape is a leading part of
            that of ``x``. Drawn uniformly if None.
        generator: Draws ``epsilon``; None is the device's default generator, the only one that
            ``torch.compile`` takes.

    Returns:
        A 0-d tensor, at least 0.

    Reference:
        Gulrajani et al., "Improved training of Wasserstein GANs", 2017.
    """
    check_floating("x", x)
    check_floating("reference", reference)
    # fn gets the precision that it is made for, but half precision is too coarse to draw in.
    dtype = torch.promote_types(x.dtype, reference.dtype)
    x, reference = same_shape(("x", "reference"), accumulator(x), accumulator(reference))
    if epsilon is None:
        drawn = x.shape[:1] if per_sample else ()
        epsilon = torch.rand(drawn, dtype=x.dtype, device=x.device, generator=generator)
    if isinstance(epsilon, Tensor):
        epsilon = _aligned_share(epsilon, x)
    else:
        number("epsilon", epsilon, low=0.0, high=1.0)
    # Not reference + epsilon * (x - reference), which misses x by a rounding error at epsilon = 1.
    between = (epsilon * x + (1.0 - epsilon) * reference).to(dtype)
    return gradient_penalty(fn, between, target_norm=target_norm, per_sample=per_sample)


def _aligned_share(epsilon: Tensor, x: Tensor) -> Tensor:
    check_floating("epsilon", epsilon)
    if epsilon.shape != x.shape[: epsilon.dim()]:
        raise ValueError(
            f"epsilon must have a leading part of the shape {tuple(x.shape)}, "
            f"got {tuple(epsilon.shape)}."
        )
    return epsilon.to(x.dtype).reshape(epsilon.shape + (1,) * (x.dim() - epsilon.dim()))


def _input_gradient(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of ``fn(x).sum()``, itself differentiable where gradients are enabled."""

    def total(point: Tensor) -> Tensor:
        return fn(point).sum()

    # torch.func.grad can be traced and nests in vmap; autograd.grad takes modules that torch.func
    # refuses (running statistics, checkpointing, autograd functions of the old style).
    functional: Callable[[Tensor], Tensor] = torch.func.grad(total)
    if torch.compiler.is_compiling():
        return functional(x)
    try:
        # A view, where nothing is recorded that detaching would cut, but keeps a forward tangent.
        point = x if x.requires_grad else x.view_as(x).requires_grad_()
    except RuntimeError:  # inside a torch.func transform, of which x is a constant
        return functional(x)
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        value = total(point)
        if not value.requires_grad:
            raise ValueError("fn must return a tensor that depends differentiably on its argument.")
        return torch.autograd.grad(
            value, point, create_graph=differentiable, materialize_grads=True
        )[0]
