"""Which positions count, and how their values become one number.

A mask is boolean, true where a position counts, and its shape is a leading part of the tensor's.
The result is that of dropping the other positions: what they hold, NaN included, reaches neither
the value nor the gradient. The mean over no position at all is 0, with zero gradient.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from penaltyscope.penalties._arguments import choice

Reduction: TypeAlias = Literal["mean", "sum"]
PositionReduction: TypeAlias = Literal["mean", "sum", "none"]


def check_reduction(reduction: str) -> None:
    """Refuse anything but a reduction to one number."""
    choice("reduction", reduction, ("mean", "sum"))


def check_position_reduction(reduction: str) -> None:
    """Refuse an unknown reduction of a function that has a value per position."""
    choice("reduction", reduction, ("mean", "sum", "none"))


def check_mask(mask: Tensor | None, shape: Sequence[int]) -> None:
    """Refuse a mask that is not boolean or whose shape is no leading part of ``shape``."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor, true where kept, got {found}.")
    if tuple(mask.shape) != tuple(shape[: mask.dim()]):
        raise ValueError(
            f"mask must have {tuple(shape)} or a leading part of it as its shape, "
            f"got {tuple(mask.shape)}."
        )


def aligned(mask: Tensor, x: Tensor) -> Tensor:
    """Give the mask trailing dimensions of 1, so that it broadcasts to ``x``."""
    return mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim()))


def dropped(x: Tensor, mask: Tensor | None) -> Tensor:
    """Put 0 where the mask does not keep ``x``."""
    # Before any arithmetic: a NaN masked afterwards comes back as 0 * NaN in the gradient.
    return x if mask is None else x.masked_fill(~aligned(mask, x), 0.0)


def count(x: Tensor, mask: Tensor | None) -> int | Tensor:
    """Number of elements of ``x`` that the mask keeps, at least 1 so that one can divide by it."""
    if mask is None:
        return max(x.numel(), 1)
    return (mask.sum(dtype=x.dtype) * math.prod(x.shape[mask.dim() :])).clamp(min=1)


def reduced(values: Tensor, reduction: str, mask: Tensor | None, factor: float = 1.0) -> Tensor:
    """Sum, average or keep ``values``, times ``factor``; what the mask drops must be 0 already."""
    if reduction == "none":
        return values if factor == 1.0 else values * factor
    total = values.sum() if values.dim() else values
    if reduction == "mean":
        if mask is not None:
            return total * (factor / count(values, mask))
        factor = factor / max(values.numel(), 1)
    return total if factor == 1.0 else total * factor
