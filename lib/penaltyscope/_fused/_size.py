"""The size of many tensors in closed form, with a gradient that is made when it is asked for.

One pass over the elements tells value and norm. The gradient is as simple a function of them: the
backward pass makes it of the tensors themselves, and nothing as large as they are is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from penaltyscope import penalties
from penaltyscope._norm import LONGEST, joint_norm, precise, widest
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Scalar, on_host, read, root, tensor

_LEAST, _MOST = 1e-30, 1e30
"""Coefficients between these are themselves in float32, too."""


class Size(NamedTuple):
    """``Σ(a|x| + bx²)``, which has the gradient ``a sign x + 2bx``."""

    a: float
    b: float


def _l1(*, scale: float = 1.0, reduction: str = "sum") -> Size | None:
    return Size(scale, 0.0) if reduction == "sum" else None


def _l2(*, scale: float = 1.0, reduction: str = "sum") -> Size | None:
    return Size(0.0, scale) if reduction == "sum" else None


def _elastic_net(
    *, scale: float = 1.0, l1_ratio: float = 0.5, reduction: str = "sum"
) -> Size | None:
    share = Size(scale * l1_ratio, scale * (1.0 - l1_ratio))
    return share if reduction == "sum" and 0 <= l1_ratio <= 1 else None


_SIZES: Final[Mapping[Callable[..., Tensor], Callable[..., Size | None]]] = {
    penalties.elastic_net: _elastic_net,
    penalties.l1: _l1,
    penalties.l2: _l2,
}


def size_of(penalty: Callable[..., Tensor], options: Mapping[str, object]) -> Size | None:
    """What the penalty with these options is; None if it is no such function of all elements."""
    try:
        found = _SIZES[penalty](**options)
    except (KeyError, TypeError):  # what is out of order is the penalty's to refuse
        return None
    if found is None or not {*map(type, found)} <= {int, float}:
        return None
    coefficients = [abs(c) for c in found if c]
    return found if coefficients and all(_LEAST < c < _MOST for c in coefficients) else None


def size(what: Size, moving: Sequence[Tensor], still: Sequence[Tensor]) -> tuple[Tensor, Scalar]:
    """The size of all tensors, 0-d and differentiable, and the norm of its gradient.

    Args:
        what: is meant by it.
        moving: the tensors that the gradient is by, of any floating dtypes; at least one.
        still: further ones, on the same device.
    """
    own = [x.detach() for x in moving]
    value, square = _measured(what, own)
    if still:
        value = value + _measured(what, [*still])[0]
    double = any(x.dtype is torch.float64 for x in (*moving, *still))
    kind = torch.float64 if double else torch.float32, own[0].device
    attached: Tensor = _Size.apply(_Known(what, value, *kind), *moving)  # type: ignore[no-untyped-call]
    return attached, root(square)


class _Known(NamedTuple):
    what: Size
    value: Scalar
    dtype: torch.dtype
    device: torch.device


class _Size(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # autograd's context has no public type
        known: _Known,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.what, value, dtype, device = known
        return tensor(value, dtype, device)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        found = _gradients(ctx.what, [accumulator(x) for x in tensors], upstream)
        # Rounded to half precision last: a loss scale is there to save what that would lose.
        return None, *(g.to(x.dtype) for g, x in zip(found, tensors, strict=True))


def _gradients(what: Size, tensors: list[Tensor], upstream: Tensor) -> Sequence[Tensor]:
    a, b = what
    if torch.is_grad_enabled():  # this pass is itself differentiated, which lists do not bear
        return [_gradient(what, x) * upstream for x in tensors]
    if not a:
        return torch._foreach_mul(tensors, upstream * (2.0 * b))  # noqa: SLF001
    signs = torch._foreach_sign(tensors)  # noqa: SLF001
    if b:
        torch._foreach_mul_(signs, a)
        torch._foreach_add_(signs, tensors, alpha=2.0 * b)
    torch._foreach_mul_(signs, upstream if b else upstream * a)
    return signs


def _gradient(what: Size, x: Tensor) -> Tensor:
    a, b = what
    if not a:
        return x * (2.0 * b)
    return x.sign() * a + x * (2.0 * b) if b else x.sign() * a


def _measured(what: Size, tensors: list[Tensor]) -> tuple[Scalar, Scalar]:
    """The size, and the squared norm of its gradient."""
    a, b = what
    value: Scalar = 0.0
    square: Scalar = 0.0
    if b:
        norm = joint_norm(tensors)
        squares = norm * norm
        value, square = b * squares, 4.0 * b * b * squares
    if a:
        count, absolute = _signed(tensors)
        value, square = value + a * absolute, square + a * a * count
        if b:
            square = square + 4.0 * a * b * absolute
    return value, square


def _signed(tensors: list[Tensor]) -> tuple[Scalar, Scalar]:
    """``Σ(sign x)²``, where the sign of NaN is 0, and ``Σ|x|``."""
    if all(map(on_host, tensors)):
        # In parts that stay in the cache, and short enough for float32.
        parts = [part for x in tensors for part in accumulator(x).reshape(-1).split(LONGEST)]
        numbers: list[Tensor] = []
        for part in parts:
            sign = part.sign()
            numbers += torch.dot(sign, sign), torch.dot(part, sign)
        read_numbers = read(numbers)
        return sum(read_numbers[::2]), sum(read_numbers[1::2])
    kind = widest(tensors[0])
    absolute = torch.stack(torch._foreach_norm(tensors, 1, dtype=kind)).sum()  # noqa: SLF001
    return torch.stack([precise(x.sign()) for x in tensors]).square().sum(), absolute
