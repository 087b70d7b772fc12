"""Lengths of slices of tensors: group lasso."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from penaltyscope._fused._deferred import Findings
from penaltyscope._fused._size import is_ordinary
from penaltyscope._norm import LEAST_SQUARE, MOST_SQUARE, widest
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Scalar, on_host, read

_STEEPEST: Final = 1e30
"""Of what is divided by a length: slices shorter than its reciprocal pull less, and never NaN."""


class Groups(NamedTuple):
    """``scale * Σ √s ‖x_g‖`` over slices along ``dim``, of s elements; ``√s x_g / ‖x_g‖``."""

    scale: float
    dim: int

    def takes(self, tensors: list[Tensor]) -> bool:
        """Whether all of them have such a dimension; a number is a slice of its own."""
        return all(-x.dim() <= self.dim < x.dim() or not x.dim() for x in tensors)

    def measure(self, tensors: list[Tensor]) -> Findings:
        """Reads every element once."""
        lengths = [_lengths(accumulator(x), self.dim) for x in tensors]
        # Of how many slices the direction counts: 1 each, 0 where it is 0, NaN where it is NaN.
        units = [torch.where(found == 0, 0.0, found / found) for found in lengths]
        numbers = read([x.sum(dtype=widest(x)) for x in (*lengths, *units)])
        value: Scalar = 0.0
        square: Scalar = 0.0
        for i, (x, found) in enumerate(zip(tensors, lengths, strict=True)):
            factor = self._factor(x, found)
            value = value + factor * numbers[i]
            square = square + factor * factor * numbers[len(tensors) + i]
        return Findings(value, square, lengths)

    def gradients(
        self, tensors: list[Tensor], kept: Sequence[Tensor], upstream: Tensor
    ) -> Sequence[Tensor]:
        """Those of one tensor after the other."""
        return [
            x * (_inverse(found) * (upstream * self._factor(x, found))).to(x.dtype)
            for x, found in zip(tensors, kept, strict=True)
        ]

    def _factor(self, x: Tensor, lengths: Tensor) -> float:
        return self.scale * math.sqrt(x.numel() / max(lengths.numel(), 1))


def lasso_groups(*, scale: float = 1.0, dim: int = 0) -> Groups | None:
    """Those of ``group_lasso``; None where its arguments are out of the ordinary."""
    return Groups(scale, dim) if is_ordinary(scale) and type(dim) is int else None


def _lengths(x: Tensor, dim: int) -> Tensor:
    """Of the slices, with as many dimensions as ``x``."""
    if x.dim() < 2:
        return x.abs()
    others = [d for d in range(x.dim()) if d != dim % x.dim()]
    if on_host(x):
        squares = x.square().sum(others, keepdim=True)
        if _are_right(squares):
            return squares.sqrt()
    lengths: Tensor = torch.linalg.vector_norm(x, dim=others, keepdim=True, dtype=widest(x))
    return lengths


def _are_right(squares: Tensor) -> bool:
    """Whether sums of squares have lost nothing to overflow or underflow."""
    if not squares.numel():
        return True
    low, high = read([*torch.aminmax(squares.masked_fill(squares == 0, 1.0))])
    return bool(low > LEAST_SQUARE and high < MOST_SQUARE)


def _inverse(lengths: Tensor) -> Tensor:
    return torch.where(lengths == 0, 0.0, lengths.reciprocal().clamp(max=_STEEPEST))
