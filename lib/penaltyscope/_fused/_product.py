"""What programs do with slopes: inner products, quick or precise, and weighted totals."""

import torch
from torch import Tensor

from penaltyscope._norm import dot, precise, widest
from penaltyscope._scalar import Scalar


def square_sum(x: Tensor, precisely: bool) -> Tensor:
    """``Σx²``, 0-d; precise where squares overflow or vanish."""
    return precise(x).square() if precisely else x.square().sum()


def inner(a: Tensor, b: Tensor, precisely: bool) -> Tensor:
    """``Σab``, 0-d."""
    if precisely and a is b:
        return precise(a).square()
    if precisely:
        a, b = a.to(widest(a)), b.to(widest(b))
    flat = a.reshape(-1)
    return dot(flat, flat if a is b else b.reshape(-1))


def start(total: Tensor, slope: Tensor, coefficient: Scalar) -> Tensor:
    """Writes ``coefficient * slope`` to ``total``."""
    if isinstance(coefficient, Tensor):
        return total.copy_(_product(slope, coefficient))
    return torch.mul(slope, coefficient, out=total)


def accumulate(total: Tensor, slope: Tensor, coefficient: Scalar) -> Tensor:
    """Adds ``coefficient * slope`` to ``total``."""
    if isinstance(coefficient, Tensor):
        return total.add_(_product(slope, coefficient))
    return total.add_(slope, alpha=coefficient)


def _product(slope: Tensor, coefficient: Tensor) -> Tensor:
    # Only the device knows whether it is 0, and then 0 * NaN must be 0.
    return torch.where(coefficient == 0, 0.0, slope * coefficient)
