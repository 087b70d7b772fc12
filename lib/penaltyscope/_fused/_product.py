"""What programs do with slopes: inner products, quick or precise, and weighted totals."""

import torch
from torch import Tensor
from torch.compiler import is_compiling

from penaltyscope._norm import dot, precise, widest
from penaltyscope._scalar import Scalar

_SHORTEST = 64

_LARGEST = torch.finfo(torch.float32).max


def plain_sum(x: Tensor) -> Tensor:
    """``Σx``, 0-d; in a graph that is being compiled ``[n]``, row by row, or ``[1]``."""
    return _by_row(x) if is_compiling() else x.sum()


def square_sum(x: Tensor, precisely: bool) -> Tensor:
    """``Σx²``, likewise; precise where squares overflow or vanish."""
    if is_compiling():
        return inner(x, x, precisely)
    return precise(x).square() if precisely else x.square().sum()


def inner(a: Tensor, b: Tensor, precisely: bool) -> Tensor:
    """``Σab``, likewise."""
    if is_compiling():
        return _by_row(a.to(widest(a)) * b.to(widest(b)) if precisely else a * b)
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
    if abs(coefficient) > _LARGEST:  # alpha must fit; a product overflows
        return total.add_(slope * coefficient)
    return total.add_(slope, alpha=coefficient)


def _product(slope: Tensor, coefficient: Tensor) -> Tensor:
    # Only the device knows whether it is 0, and then 0 * NaN must be 0.
    return torch.where(coefficient == 0, 0.0, slope * coefficient)


def _by_row(x: Tensor) -> Tensor:
    # All sums of a row are then one loop over it, which stays in the cache, and short enough for
    # float32. Rows that are very short would cost more than they contain.
    return x.sum(-1) if x.shape[-1] >= _SHORTEST else x.sum().reshape(1)
