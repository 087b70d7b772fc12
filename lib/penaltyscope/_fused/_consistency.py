"""Closed forms of consistency."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from penaltyscope._fused._divergences import symmetric_kl
from penaltyscope._fused._form import Form, Mask, Sketch, View, Whole, entries, squares, total
from penaltyscope._numerics import accumulator, magnitude
from penaltyscope.penalties._arguments import choice
from penaltyscope.penalties._reduction import (
    PositionReduction,
    check_position_reduction,
    dropped,
)


def consistency(
    f: Sketch,
    a: int,
    b: int,
    *,
    metric: Literal["mse", "l1", "cosine", "kl"] = "mse",
    reduction: PositionReduction = "mean",
    mask: Mask = None,
) -> Form | Whole:
    """``Σd²`` and ``±2d``, or ``Σ|d|`` and ``±sign d``, with ``d = a - b``."""
    choice("metric", metric, ("mse", "l1", "cosine", "kl"))
    check_position_reduction(reduction)
    if metric == "kl":
        return symmetric_kl(f, a, b, reduction, mask)
    if metric == "cosine":
        return Whole(_cosine, "element")
    d = f(torch.sub, entries(f, View(a, mask)), entries(f, View(b, mask)))
    if metric == "l1":
        slope, value, factor = f(torch.sign, d), total(f, f(torch.abs, d)), 1.0
    else:
        slope, value, factor = d, squares(f, d), 2.0
    slopes = {a: ((factor, slope),), b: ((-factor, slope),)}
    return Form(slopes, ((1.0, value),), "element", reduction)


def _cosine(
    tensors: Sequence[Tensor], mask: Tensor | None, wanted: Sequence[bool]
) -> tuple[Tensor, Sequence[Tensor | None]]:
    # With unit vectors u and v: ½‖u - v‖², which keeps its digits where the two agree, and so does
    # its gradient (u - v - value u)/‖a‖. A zero vector leaves ½ out, and has no gradient.
    u, u_inverse, u_zero = _direction(dropped(accumulator(tensors[0]), mask))
    v, v_inverse, v_zero = _direction(dropped(accumulator(tensors[1]), mask))
    apart = u - v
    value = (apart.square().sum() + u_zero + v_zero) * 0.5
    return value, [
        (apart - value * u).mul_(u_inverse) if wanted[0] else None,
        (apart + value * v).mul_(-v_inverse) if wanted[1] else None,
    ]


def _direction(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unit vector, the inverse of the length (0 for a zero vector), and whether it is zero."""
    size = magnitude(x.flatten())
    scaled = x / size
    squared = scaled.square().sum()
    zero = squared == 0
    inverse = squared.masked_fill(zero, 1.0).rsqrt().masked_fill(zero, 0.0)
    return scaled * inverse, inverse / size, zero
