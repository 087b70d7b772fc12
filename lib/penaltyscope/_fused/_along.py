"""A direction as if it were a penalty: its products with slopes are then known with theirs."""

import torch
from torch import Tensor

from penaltyscope._fused._form import Form, Mask, Sketch, View, entries, total


def along(x: Tensor, direction: Tensor) -> Tensor:
    """``Σxd``, 0-d, which has the direction as its gradient by ``x``."""
    return (x * direction).sum()


def along_form(f: Sketch, x: int, direction: int, *, mask: Mask = None) -> Form:
    """``Σxd``, with the gradients ``d`` and ``x``."""
    a, b = entries(f, View(x, mask)), entries(f, View(direction, mask))
    slopes = {x: ((1.0, b),), direction: ((1.0, a),)}
    return Form(slopes, ((1.0, total(f, f(torch.mul, a, b))),), "element", "sum")
