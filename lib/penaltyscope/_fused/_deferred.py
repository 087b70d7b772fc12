"""A sum over many tensors whose gradient is made when it is asked for.

One pass over the elements tells value and norm. The gradient is as simple a function of them: the
backward pass makes it of the tensors themselves, and nothing as large as they are is kept.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from penaltyscope._fused._function import Plain, again
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Scalar, root, tensor


class Findings(NamedTuple):
    """What one pass over tensors tells."""

    value: Scalar
    square: Scalar
    """Of the gradient's norm."""
    kept: Sequence[Tensor]
    """What the gradient is made of beside the tensors; small."""


class Deferrable(Protocol):
    """A sum of one function of each tensor."""

    def takes(self, tensors: list[Tensor]) -> bool:
        """Whether it is a function of tensors like these."""

    def measure(self, tensors: list[Tensor]) -> Findings:
        """Looks at tensors of any floating dtype."""

    def gradients(
        self, tensors: list[Tensor], kept: Sequence[Tensor], upstream: Tensor
    ) -> Sequence[Tensor]:
        """Those by the tensors, which are float32 or float64 here, times ``upstream``."""


def deferred(
    what: Deferrable, plain: Plain, moving: Sequence[Tensor], still: Sequence[Tensor]
) -> tuple[Tensor, Scalar]:
    """The sum over all tensors, 0-d and differentiable, and the norm of its gradient.

    Args:
        what: the function.
        plain: what second derivatives are taken of: the same sum over tensors that stand for those
            that move.
        moving: the tensors that the gradient is by, of any floating dtypes; at least one.
        still: further ones, on the same device.
    """
    own = [x.detach() for x in moving]
    found = what.measure(own)
    value = found.value
    if still:
        value = value + what.measure([*still]).value
    double = any(x.dtype is torch.float64 for x in (*moving, *still))
    kind = torch.float64 if double else torch.float32, own[0].device
    known = _Known(what, plain, found.kept, value, *kind)
    total: Tensor = _Deferred.apply(known, *moving)  # type: ignore[no-untyped-call]
    return total, root(found.square)


class _Known(NamedTuple):
    what: Deferrable
    plain: Plain
    kept: Sequence[Tensor]
    value: Scalar
    dtype: torch.dtype
    device: torch.device


class _Deferred(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # autograd's context has no public type
        known: _Known,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.known = known
        return tensor(known.value, known.dtype, known.device)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        known: _Known = ctx.known
        if torch.is_grad_enabled():
            return None, *again(known.plain, len(tensors), tensors, upstream)
        wide = [accumulator(x) for x in tensors]
        found = known.what.gradients(wide, known.kept, upstream)
        # Rounded to half precision last: a loss scale is there to save what that would lose.
        return None, *(g.to(x.dtype) for g, x in zip(found, tensors, strict=True))
