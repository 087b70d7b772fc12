"""L2 about the mean, whose gradient depends on sums that depend on sums."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penaltyscope._fused._form import Whole
from penaltyscope._numerics import accumulator
from penaltyscope.penalties._reduction import count, dropped, reduced


def centred_l2(scale: float, reduction: str, clip: float | None) -> Whole:
    """``Σz²``, with the gradient ``2z`` less its mean, where ``z = clamp(x - mean)``."""

    def evaluate(
        tensors: Sequence[Tensor], mask: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        x = dropped(accumulator(tensors[0]), mask)
        z = dropped(x - x.sum() / count(x, mask), mask)
        held = z if clip is None else z.clamp(-clip, clip)
        value = reduced(held.square(), reduction, mask, scale)
        if not wanted[0]:
            return value, [None]
        slope = z
        if clip is not None:
            slope = torch.where(z.abs() <= clip, z, 0.0)
            slope = dropped(slope - slope.sum() / count(slope, mask), mask)
        share = 1.0 / count(x, mask) if reduction == "mean" else 1.0
        return value, [slope * (2.0 * scale * share)]

    return Whole(evaluate, "element")
