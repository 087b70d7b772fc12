"""A total whose gradients are there already, as autograd sees it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from penaltyscope._scalar import Scalar, on_host, tensor

Plain: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""The total once more, from tensors and weights, by functions that autograd can differentiate."""


class _Known(NamedTuple):
    """What a total is made of, in one object: each argument of a function costs."""

    total: Scalar
    dtype: torch.dtype
    device: torch.device
    plain: Plain
    tensors: int
    gradients: Sequence[Tensor | None]
    is_own: bool


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # autograd's context has no public type
        known: _Known,
        *inputs: Tensor,
    ) -> Tensor:
        total, dtype, device, ctx.plain, ctx.tensors, gradients, is_own = known
        ctx.save_for_backward(*inputs, *gradients)
        # What is returned is changed in place: it must be no one else's.
        if is_own and isinstance(total, Tensor):
            return total
        return tensor(total.clone() if isinstance(total, Tensor) else total, dtype, device)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        upstream: Tensor,
    ) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        inputs, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        found = (
            again(ctx.plain, ctx.tensors, inputs, upstream)
            if torch.is_grad_enabled()
            else _scaled(gradients, upstream, inputs)
        )
        return None, *found


def attach(
    total: Scalar,
    kind: tuple[torch.dtype, torch.device],
    plain: Plain,
    tensors: Sequence[Tensor],
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    is_own: bool = False,
) -> Tensor:
    """``total``, 0-d, as a differentiable function of tensors and weights.

    Args:
        total: the value.
        kind: that the result is to have.
        plain: what second derivatives are taken of.
        tensors: of which the total is a function.
        weights: likewise.
        gradients: of the total by tensors and weights, in the dtype of sums; None for none.
        is_own: whether ``total`` is a tensor of that kind, and no one else has it.
    """
    attached: Tensor = _Total.apply(  # type: ignore[no-untyped-call]
        _Known(total, *kind, plain, len(tensors), gradients, is_own), *tensors, *weights
    )
    return attached


def _scaled(
    gradients: Sequence[Tensor | None], upstream: Tensor, inputs: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    # What another pass may ask for once more must not be given away.
    kept = torch._C._autograd._get_current_graph_task_keep_graph()  # noqa: SLF001
    if kept or not _is_one(upstream):
        gradients = [g if g is None else g * upstream.to(g) for g in gradients]
    # Rounded to half precision last: a loss scale is there to save what that would lose.
    return [g if g is None else g.to(x.dtype) for g, x in zip(gradients, inputs, strict=True)]


def _is_one(upstream: Tensor) -> bool:
    try:
        return on_host(upstream) and cast("float", upstream.tolist()) == 1.0
    except RuntimeError:  # many at once under vmap, or a zero without memory
        return False


def again(
    plain: Plain, tensors: int, inputs: Sequence[Tensor], upstream: Tensor
) -> Sequence[Tensor | None]:
    """Gradients that can be differentiated themselves.

    Args:
        plain: the total, of tensors and weights.
        tensors: how many of the inputs are tensors; the others are weights.
        inputs: tensors and weights.
        upstream: what the gradients are multiplied with.
    """
    # Aliases, because one input may be computed from another: the gradient must stop here.
    aliases = [x.view_as(x) for x in inputs]
    total = plain(aliases[:tensors], aliases[tensors:]).to(upstream.dtype)
    if not total.requires_grad:
        return [None] * len(aliases)
    wanted = [x for x in aliases if x.requires_grad]
    found = iter(torch.autograd.grad(total, wanted, upstream, create_graph=True, allow_unused=True))
    return [next(found) if x.requires_grad else None for x in aliases]
