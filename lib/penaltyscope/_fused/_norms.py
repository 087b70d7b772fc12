"""Closed forms of the penalties on size."""

from typing import Literal

import torch
from torch import Tensor

from penaltyscope._fused._centred import centred_l2
from penaltyscope._fused._form import (
    Form,
    Mask,
    Parts,
    Sketch,
    View,
    Whole,
    entries,
    kept,
    sign_of_all,
    squares,
    total,
)
from penaltyscope._scalar import Scalar
from penaltyscope.penalties._arguments import number, positive
from penaltyscope.penalties._reduction import Reduction, check_reduction


def l1(
    f: Sketch, x: int, *, scale: float = 1.0, reduction: Reduction = "sum", mask: Mask = None
) -> Form:
    """``Σ|x|``, with the gradient ``sign x``."""
    return elastic_net(f, x, scale=scale, l1_ratio=1.0, reduction=reduction, mask=mask)


def elastic_net(
    f: Sketch,
    x: int,
    *,
    scale: float = 1.0,
    l1_ratio: float = 0.5,
    reduction: Reduction = "sum",
    mask: Mask = None,
) -> Form:
    """``Σ(r|x| + (1 - r)x²)``, with the gradient ``r sign x + 2(1 - r)x``."""
    number("scale", scale)
    number("l1_ratio", l1_ratio, low=0.0, high=1.0)
    check_reduction(reduction)
    view = View(x, mask)
    elements = entries(f, view)
    sums: Parts = ()
    slopes: Parts = ()
    # A part that does not count is left out: an overflow in it would make 0 * inf.
    if l1_ratio > 0:
        one = scale * l1_ratio
        sums, slopes = (_sizes(f, one, view),), ((one, f(torch.sign, elements)),)
    if l1_ratio < 1:
        two = scale * (1.0 - l1_ratio)
        sums += ((two, squares(f, elements)),)
        slopes += ((2.0 * two, elements),)
    return Form({x: slopes}, sums, "element", reduction)


def l2(
    f: Sketch,
    x: int,
    *,
    scale: float = 1.0,
    reduction: Reduction = "sum",
    center: Literal["mean"] | float | None = None,
    clip: float | None = None,
    mask: Mask = None,
) -> Form | Whole | None:
    """``Σz²``, with the gradient ``2z`` where the clamp lets it pass."""
    number("scale", scale)
    check_reduction(reduction)
    if clip is not None:
        positive("clip", clip)
    if isinstance(center, str):
        return centred_l2(scale, reduction, clip) if center == "mean" else None
    view = View(x, mask)
    z = entries(f, view)
    if center is not None:
        number("center", center)
        z = kept(f, view, f(torch.sub, z, constants=(center,)))
    held = z if clip is None else f(torch.clamp, z, constants=(-clip, clip))
    passing = z if clip is None else f(_within, z, constants=(clip,))
    sums = ((scale, squares(f, held)),)
    return Form({x: ((2.0 * scale, passing),)}, sums, "element", reduction)


def output_magnitude_penalty(
    f: Sketch,
    x: int,
    *,
    target: float = 1.0,
    reduction: Reduction = "mean",
    mask: Mask = None,
) -> Form:
    """``(m - target)²``, with the gradient ``2(m - target)/(m n) x``."""
    number("target", target)
    check_reduction(reduction)
    view = View(x, mask)

    def settle(squared: Scalar, share: Scalar) -> tuple[Scalar, Scalar]:
        size = (squared * share) ** 0.5
        excess = size - target
        if isinstance(size, Tensor):
            pull: Scalar = torch.where(size == 0, 0.0, 2.0 * excess * share / size)
        else:
            pull = 2.0 * excess * share / size if size else 0.0
        return excess * excess, pull

    x_squared = squares(f, entries(f, view))
    return Form({x: ((1.0, entries(f, view)),)}, ((1.0, x_squared),), "element", reduction, settle)


def _sizes(f: Sketch, coefficient: float, view: View) -> tuple[float, int]:
    """``Σ|x|`` with a coefficient."""
    x, sign = entries(f, view), f.ask(sign_of_all, view)
    if sign:
        return coefficient * sign, total(f, x)
    return coefficient, total(f, f(torch.abs, x))


def _within(z: Tensor, clip: float) -> Tensor:
    return torch.where(z.abs() <= clip, z, 0.0)
