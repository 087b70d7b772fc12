"""What programs do with slopes: inner products, quick or precise, and weighted totals."""

import torch
from torch import Tensor

from penaltyscope._scalar import Scalar

_LONGEST = 1 << 16
"""A float32 inner product of more elements loses digits on the CPU."""

_SHORTEST = 64


def plain_sum(x: Tensor) -> Tensor:
    """``Σx``, 0-d; in a graph that is being compiled ``[n]``, row by row, or ``[1]``."""
    return _by_row(x) if torch.compiler.is_compiling() else x.sum()


def square_sum(x: Tensor, precise: bool) -> Tensor:
    """``Σx²``, likewise; precise where squares overflow or vanish."""
    if torch.compiler.is_compiling():
        return inner(x, x, precise)
    if not precise:
        return x.square().sum()
    norm: Tensor = torch.linalg.vector_norm(x, dtype=_widest(x))
    return norm.square()


def inner(a: Tensor, b: Tensor, precise: bool) -> Tensor:
    """``Σab``, likewise."""
    if torch.compiler.is_compiling():
        return _by_row(a.to(_widest(a)) * b.to(_widest(b)) if precise else a * b)
    if precise and a is b:
        return square_sum(a, precise)
    if precise:
        a, b = a.to(_widest(a)), b.to(_widest(b))
    flat = a.reshape(-1)
    a, b = flat, flat if a is b else b.reshape(-1)
    if a.numel() <= _LONGEST or a.device.type != "cpu":
        return torch.dot(a, b)
    parts = zip(a.split(_LONGEST), b.split(_LONGEST), strict=True)
    return torch.stack([torch.dot(left, right) for left, right in parts]).sum()


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


def _by_row(x: Tensor) -> Tensor:
    # All sums of a row are then one loop over it, which stays in the cache, and short enough for
    # float32; rows that are very short would cost more than they contain.
    return x.sum(-1) if x.shape[-1] >= _SHORTEST else x.sum().reshape(1)


def _widest(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64
