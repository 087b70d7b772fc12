"""What programs do with slopes: inner products, quick or precise, and weighted totals."""

from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from penaltyscope._norm import dot, precise, widest
from penaltyscope._scalar import Scalar, wide

Sums: TypeAlias = int
"""How sums are made: bits."""

QUICK: Final = 0
PRECISE: Final = 1
"""Where squares overflow or vanish."""
BY_ROW: Final = 2
"""In a graph that is being compiled: ``[n]``, row by row, or ``[1]``."""

_SHORTEST = 64

_LARGEST = torch.finfo(torch.float32).max


class Gated(NamedTuple):
    """A coefficient that a graph finds out, 0-d."""

    coefficient: Tensor
    bits: Tensor
    """An integer as wide, all ones, or all zeros where 0 times anything is to be 0."""


def plain_sum(x: Tensor, sums: Sums) -> Tensor:
    """``Σx``, 0-d unless it is by row."""
    return _by_row(x) if sums & BY_ROW else x.sum()


def square_sum(x: Tensor, sums: Sums) -> Tensor:
    """``Σx²``, likewise."""
    return inner(x, x, sums) if sums else x.square().sum()


def inner(a: Tensor, b: Tensor, sums: Sums) -> Tensor:
    """``Σab``, likewise."""
    if sums:
        return _carefully(a, b, sums)
    flat = a.ravel()
    return dot(flat, flat if a is b else b.ravel())


def start(total: Tensor, slope: Tensor, coefficient: Scalar | Gated) -> Tensor:
    """Writes ``coefficient * slope`` to ``total``."""
    if isinstance(coefficient, Tensor | Gated):
        return total.copy_(_product(slope, coefficient))
    if abs(coefficient) > _LARGEST:
        return total.copy_(wide(slope) * coefficient)
    return torch.mul(slope, coefficient, out=total)


def accumulate(total: Tensor, slope: Tensor, coefficient: Scalar | Gated) -> Tensor:
    """Adds ``coefficient * slope`` to ``total``."""
    if isinstance(coefficient, Tensor | Gated):
        return total.add_(_product(slope, coefficient))
    if abs(coefficient) > _LARGEST:  # alpha must fit, and the product of a tiny slope may
        return total.add_(wide(slope) * coefficient)
    return total.add_(slope, alpha=coefficient)


def _product(slope: Tensor, coefficient: Tensor | Gated) -> Tensor:
    if isinstance(coefficient, Gated):
        # A comparison would be a branch for every few elements.
        product = (slope * coefficient.coefficient).view(coefficient.bits.dtype)
        return (product & coefficient.bits).view(slope.dtype)
    # Only the device knows whether it is 0, and then 0 * NaN must be 0.
    return torch.where(coefficient == 0, 0.0, slope * coefficient)


def _carefully(a: Tensor, b: Tensor, sums: Sums) -> Tensor:
    if sums == PRECISE and a is b:
        return precise(a).square()
    if sums & PRECISE:
        a, b = a.to(widest(a)), b.to(widest(b))
    return _by_row(a * b) if sums & BY_ROW else dot(a.ravel(), b.ravel())


def _by_row(x: Tensor) -> Tensor:
    # All sums of a row are then one loop over it, which stays in the cache, and short enough for
    # float32. Rows that are very short would cost more than they contain.
    if x.shape[-1] == 1:  # sums of rows already
        return x.squeeze(-1)
    return x.sum(-1) if x.shape[-1] >= _SHORTEST else x.sum().reshape(1)
