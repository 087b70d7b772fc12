"""Penalties on size: L1, L2, their mixture, and a magnitude's distance from a target.

All take one floating-point tensor of any shape; empty ones are sums over nothing. Half precision is
accumulated, and returned, in float32. ``mask`` keeps positions: boolean, true where kept, its shape
that of the tensor or a leading part of it.
"""

from typing import Literal

from torch import Tensor

from penaltyscope._numerics import norm
from penaltyscope.penalties._arguments import floating, number, positive
from penaltyscope.penalties._reduction import (
    Reduction,
    check_mask,
    check_reduction,
    count,
    dropped,
    reduced,
)


def l1(
    x: Tensor, *, scale: float = 1.0, reduction: Reduction = "sum", mask: Tensor | None = None
) -> Tensor:
    """``scale * Σ|x|``, or the mean instead of the sum; the gradient at 0 is 0.

    Args:
        x: Any shape.
        scale: Any finite number.
        reduction: Over all kept elements.
        mask: True where a position counts.

    Returns:
        A 0-d tensor of the sign of ``scale``.

    Reference:
        Tibshirani, "Regression shrinkage and selection via the lasso", 1996.
    """
    number("scale", scale)
    check_reduction(reduction)
    return reduced(_kept(x, mask).abs(), reduction, mask, scale)


def l2(
    x: Tensor,
    *,
    scale: float = 1.0,
    reduction: Reduction = "sum",
    center: Literal["mean"] | float | None = None,
    clip: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """``scale * Σz²`` with ``z = clamp(x - center, -clip, clip)``, or the mean; without a ½.

    Args:
        x: Any shape.
        scale: Any finite number.
        reduction: Over all kept elements.
        center: Subtracted first: a number, or the mean of the kept elements, through which the
            gradient flows.
        clip: Largest magnitude that counts, after centring. The gradient beyond it is 0; at the
            bound itself it passes, as that of ``torch.clamp`` does.
        mask: True where a position counts.

    Returns:
        A 0-d tensor of the sign of ``scale``.

    Reference:
        Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", 1970.
    """
    number("scale", scale)
    check_reduction(reduction)
    z = _kept(x, mask)
    if center is not None:
        z = dropped(z - _center(z, center, mask), mask)
    if clip is not None:
        positive("clip", clip)
        z = z.clamp(-clip, clip)
    return reduced(z.square(), reduction, mask, scale)


def elastic_net(
    x: Tensor,
    *,
    scale: float = 1.0,
    l1_ratio: float = 0.5,
    reduction: Reduction = "sum",
    mask: Tensor | None = None,
) -> Tensor:
    """``scale * Σ(r|x| + (1 - r)x²)`` with ``r = l1_ratio``, or the mean; |x| has gradient 0 at 0.

    Args:
        x: Any shape.
        scale: Any finite number.
        l1_ratio: Share of L1, from 0 to 1. At either end only the part that counts is computed, so
            that no infinity is multiplied by 0.
        reduction: Over all kept elements.
        mask: True where a position counts.

    Returns:
        A 0-d tensor of the sign of ``scale``.

    Reference:
        Zou and Hastie, "Regularization and variable selection via the elastic net", 2005.
    """
    number("scale", scale)
    number("l1_ratio", l1_ratio, low=0.0, high=1.0)
    check_reduction(reduction)
    x = _kept(x, mask)
    if l1_ratio == 1.0:
        values = x.abs()
    elif l1_ratio == 0.0:
        values = x.square()
    else:
        size = x.abs()
        values = size * (size * (1.0 - l1_ratio) + l1_ratio)
    return reduced(values, reduction, mask, scale)


def output_magnitude_penalty(
    x: Tensor, *, target: float = 1.0, reduction: Reduction = "mean", mask: Tensor | None = None
) -> Tensor:
    """``(m - target)²``, ``m`` being the root of the mean (or the sum) of the squares of ``x``.

    A cheap stand-in for a gradient penalty: it takes no second derivative. The gradient at
    ``x = 0``, where every direction is as good as any other, is 0.

    Args:
        x: Outputs of any shape.
        target: The magnitude that costs nothing; any finite number.
        reduction: Inside the root: ``"mean"`` is the root mean square, ``"sum"`` the norm.
        mask: True where a position counts.

    Returns:
        A 0-d tensor, at least 0.
    """
    number("target", target)
    check_reduction(reduction)
    x = _kept(x, mask)
    size = norm(x.flatten())
    if reduction == "mean":
        size = size / count(x, mask) ** 0.5
    return (size - target).square()


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    x = floating("x", x)
    check_mask(mask, x.shape)
    return dropped(x, mask)


def _center(x: Tensor, center: Literal["mean"] | float, mask: Tensor | None) -> Tensor | float:
    if center == "mean":
        return x.sum() / count(x, mask)
    if isinstance(center, str):
        raise ValueError(f"center must be None, 'mean' or a number, got {center!r}.")
    number("center", center)
    return center
