"""Per-term gradients out of the backward pass that training runs anyway.

Each tensor is fanned out into one alias for every term that uses it. Autograd then hands back the
gradient of each alias separately; their norms are taken in passing, and their sum goes on to
where the tensor came from. Nothing is evaluated twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from penaltyscope._norm import norms, summed
from penaltyscope._scalar import read_one, row

TOGETHER = -1
"""The user of a tensor that stands for all terms whose norms are known without this pass."""


class GradientTap:
    """What one backward pass told: norms of the gradients, and the scale it came with."""

    __slots__ = ("gram", "on_settled", "row", "scale", "settled_ns", "terms")

    def __init__(self, *, terms: int = 0) -> None:
        self.terms = terms
        """How many terms' inner products are wanted; 0 when none are."""
        self.gram: Tensor | None = None
        """``[T, T]``, inner products of the terms' weighted gradients, if they are wanted."""
        self.row: Tensor | None = None
        """``[A + S + 1]``: norm of each alias, then of each tensor's sum, all of them scaled by
        weight and ``scale``, which is last."""
        self.scale: Tensor | None = None
        """0-d, d(what was differentiated)/d(total): a loss scale, or 1 / accumulation steps."""
        self.settled_ns = 0
        """Unix time in nanoseconds at which the norms were there; 0 before."""
        self.on_settled: Callable[[], None] | None = None
        """Called in the backward pass once the norms are there."""

    def set_scale(self, gradients: Sequence[Tensor]) -> None:
        """The hook on the node that made the total."""
        self.scale = gradients[0].detach()

    def settle(
        self,
        users: Sequence[Sequence[int]],
        groups: Sequence[Sequence[Tensor | None]],
        sums: Sequence[Tensor | None],
        squares: Mapping[int, Tensor],
    ) -> None:
        """Takes in what came back.

        Args:
            users: of each tensor.
            groups: for each tensor the gradients by its aliases.
            sums: of these.
            squares: by ``id``, the sums of squares that are known of some of them.
        """
        measured = [
            g
            for own, group in zip(users, groups, strict=True)
            for user, g in zip(own, group, strict=True)
            if user != TOGETHER
        ]
        self.row = _row([*measured, *sums], squares, self.scale)
        if self.terms:
            self.gram = _gram(users, groups, self.terms)
        self.settled_ns = time.time_ns()
        if self.on_settled is not None:
            self.on_settled()


class _Fan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # autograd's context has no public type
        tap: GradientTap,
        users: Sequence[Sequence[int]],
        gates: Sequence[Tensor | None],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        # A gradient that is None costs nothing; materialised it would be a tensor of zeros.
        ctx.set_materialize_grads(False)
        ctx.tap, ctx.users = tap, users
        ctx.gates = gates
        return tuple(x.view_as(x) for x, own in zip(tensors, users, strict=True) for _ in own)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        if ctx.gates:
            gradients = tuple(map(_passed, gradients, ctx.gates))
        rest = iter(gradients)
        groups = [[next(rest) for _ in own] for own in ctx.users]
        squares: dict[int, Tensor] = {}
        sums = [_sum([g for g in group if g is not None], squares) for group in groups]
        if torch.is_grad_enabled():
            with torch.no_grad():
                ctx.tap.settle(ctx.users, groups, sums, squares)
        else:
            ctx.tap.settle(ctx.users, groups, sums, squares)
        return (None, None, None, *sums)


def fan(
    tap: GradientTap,
    tensors: Sequence[Tensor],
    users: Sequence[Sequence[int]],
    gates: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Aliases of the tensors, one for each of a tensor's users; norms go to ``tap``.

    A user is a term by its number, or ``TOGETHER``, whose norm is not taken.

    The gradient of an alias passes only where its gate, 0-d and boolean, is None or true; there may
    be no gates at all.
    """
    aliases: tuple[Tensor, ...] = _Fan.apply(  # type: ignore[no-untyped-call]
        tap, users, gates, *tensors
    )
    return aliases


def _sum(gradients: list[Tensor], squares: dict[int, Tensor]) -> Tensor | None:
    if len(gradients) < 2:
        return gradients[0] if gradients else None
    if not torch.is_grad_enabled() and (whole := summed(gradients, squares)) is not None:
        return whole
    total = gradients[0] + gradients[1]
    for gradient in gradients[2:]:
        # In place like autograd's own accumulation, unless this pass is itself differentiated.
        total = total + gradient if torch.is_grad_enabled() else total.add_(gradient)
    return total


def _row(
    gradients: list[Tensor | None], squares: Mapping[int, Tensor], scale: Tensor | None
) -> Tensor | None:
    present = [g for g in gradients if g is not None]
    if not present or scale is None:
        return None
    found = iter(norms(present, squares))
    numbers = [0.0 if g is None else next(found) for g in gradients]
    return row([*numbers, read_one(scale)], present[0].device)


def _gram(
    users: Sequence[Sequence[int]], groups: Sequence[Sequence[Tensor | None]], terms: int
) -> Tensor | None:
    total: Tensor | None = None
    for own, group in zip(users, groups, strict=True):
        by_term = {user: g for user, g in zip(own, group, strict=True) if g is not None}
        if not by_term:
            continue
        like = next(iter(by_term.values()))
        like = like.to(torch.promote_types(like.dtype, torch.float32))
        zero = torch.zeros_like(like)
        rows = torch.stack([by_term.get(term, zero).to(like) for term in range(terms)]).flatten(1)
        product = rows @ rows.T
        total = product if total is None else total + product.to(total)
    return total


def _passed(gradient: Tensor | None, gate: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or gate is None else torch.where(gate, gradient, 0.0)
