"""Per-term gradients out of the backward pass that training runs anyway.

Each tensor is fanned out into one alias for every term that uses it. Autograd then hands back the
gradient of each alias separately; their norms are taken in passing, and their sum goes on to
where the tensor came from. Nothing is evaluated twice.

The gradients of a short tensor wait for each other: they are small, and being asked once is
cheaper than once for each. Those of a long one are measured as they come and added up by autograd
itself, which needs memory for one of them.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice, zip_longest
from typing import Any, Final

import torch
from torch import Tensor

from penaltyscope._norm import LONGEST, is_quick, norms, quick_norms, real_parts
from penaltyscope._scalar import Scalar, packed, read_one, sum_dtype, unpacked
from penaltyscope._weights import constant

TOGETHER = -1
"""The user of a tensor that stands for all terms whose norms are known without this pass."""


_is_batched: Final = torch._C._functorch.is_batchedtensor  # noqa: SLF001
_is_batched_by_autograd: Final = torch._C._functorch.is_legacy_batchedtensor  # noqa: SLF001


class GradientTap:
    """What one backward pass told: norms of the gradients, and the scale it came with."""

    __slots__ = ("gram", "numbers", "on_settled", "settled_ns", "terms")

    def __init__(self, *, terms: int = 0) -> None:
        self.terms = terms
        """How many terms' inner products are wanted; 0 when none are."""
        self.gram: Tensor | None = None
        """``[T, T]``, inner products of the terms' weighted gradients, if they are wanted."""
        self.numbers: bytes | Tensor | None = None
        """``[A + S + 1]``: norm of each alias, then of each tensor's sum, all of them scaled by
        weight and by what is last, d(what was differentiated)/d(total): a loss scale, or
        1 / accumulation steps. Bytes of float64 where the host knew all of them at once."""
        self.settled_ns = 0
        """Unix time in nanoseconds at which the norms were there; 0 before."""
        self.on_settled: Callable[[], None] | None = None
        """Called in the backward pass once the norms are there."""

    @property
    def row(self) -> Tensor | None:
        """The numbers as a vector."""
        return None if self.numbers is None else unpacked(self.numbers)

    def settle(self, numbers: bytes | Tensor | None, gram: Tensor | None) -> None:
        """Takes in what came back."""
        self.numbers, self.gram = numbers, gram
        self.settled_ns = time.time_ns()
        if self.on_settled is not None:
            self.on_settled()


class _Branches:
    """The aliases of a long tensor, and the norms of their gradients."""

    __slots__ = ("_norms", "_users")

    def __init__(self, users: Sequence[int]) -> None:
        self._users = users
        self._norms: dict[int, Scalar] = {}

    def grow(self, trunk: Tensor, gates: Sequence[Tensor | None]) -> list[Tensor]:
        """One alias for each user."""
        aliases = [trunk.view_as(trunk) for _ in self._users]
        for i, (user, alias) in enumerate(zip(self._users, aliases, strict=True)):
            if user != TOGETHER:
                alias.register_hook(partial(self._measure, i, gates[i] if gates else None))
        return aliases

    def taken(self) -> list[Scalar]:
        """The norms of one backward pass, by user; 0 where no gradient came."""
        norms, self._norms = self._norms, {}
        return [norms.get(i, 0.0) for i, user in enumerate(self._users) if user != TOGETHER]

    def _measure(self, place: int, gate: Tensor | None, gradient: Tensor) -> Tensor | None:
        passed = gradient if gate is None else torch.where(gate, gradient, 0.0)
        if not _is_many(gradient):
            with torch.no_grad():
                self._norms[place] = norms([passed])[0]
        return None if gate is None else passed


class _Fan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # autograd's context has no public type
        tap: GradientTap,
        users: Sequence[Sequence[int]],
        gates: Sequence[Tensor | None],
        branches: Sequence[_Branches | None],
        quick: bool,
        probe: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        # A gradient that is None costs nothing; materialised it would be a tensor of zeros.
        ctx.set_materialize_grads(False)
        ctx.given = tap, users, gates, branches, quick
        # Inputs that are handed out come back as views of themselves.
        return probe, *[x for x, own in zip(tensors, users, strict=True) for _ in own]

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        scale: Tensor | None,
        *gradients: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        tap, users, gates, branches, quick = ctx.given
        if gates:
            gradients = tuple(map(_passed, gradients, gates))
        rest = iter(gradients)
        groups = [[*islice(rest, len(own))] for own in users]
        sums = [_sum([g for g in group if g is not None]) for group in groups]
        measured: Sequence[_Item] = gradients
        if not quick:
            measured = _measured(users, groups, branches)
        # Without a scale it is something else that is differentiated, this very pass; and many
        # passes at once have no norms of their own.
        if scale is not None and not _is_many(scale):
            with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
                numbers = _numbers([*measured, *sums], scale, quick=quick)
                tap.settle(numbers, _gram(users, groups, tap.terms) if tap.terms else None)
        return None, None, None, None, None, None, *sums


_apply: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, _Fan).apply
"""Without what ``Function.apply`` does first for torch.func, whose transforms it refuses."""


def fan(
    tap: GradientTap,
    tensors: Sequence[Tensor],
    users: Sequence[Sequence[int]],
    gates: Sequence[Sequence[Tensor | None]],
) -> tuple[Sequence[Tensor], Tensor]:
    """Aliases of the tensors, one for each of a tensor's users, and a probe; norms go to ``tap``.

    A user is a term by its number, or ``TOGETHER``, whose norm is not taken. The probe is a 0 that
    has to be added to the total: its gradient is the scale that all others came with.

    The gradient of an alias passes only where its gate, 0-d and boolean, is None or true; there may
    be no gates at all.
    """
    plain = not torch._C._are_functorch_transforms_active()  # noqa: SLF001
    apply: Callable[..., tuple[Tensor, ...]] = _apply if plain else _Fan.apply
    first = tensors[0]
    probe = constant(0.0, sum_dtype(first), first)
    branches = [
        _Branches(own) if x.numel() > LONGEST and len(own) > 1 and not tap.terms else None
        for x, own in zip(tensors, users, strict=True)
    ]
    aliases: list[Tensor] = []
    if not any(branches):
        flat = [gate for own in gates for gate in own]
        quick = is_quick(tensors) and not any(TOGETHER in own for own in users)
        probe, *aliases = apply(tap, users, flat, (), quick, probe, *tensors)
        return aliases, probe
    trunks = [own if b is None else (TOGETHER,) for own, b in zip(users, branches, strict=True)]
    flat = [
        gate
        for own, b in zip(gates, branches, strict=False)
        for gate in (own if b is None else (None,))
    ]
    probe, *outputs = apply(tap, trunks, flat, branches, False, probe, *tensors)
    rest = iter(outputs)
    for i, (own, grown) in enumerate(zip(users, branches, strict=True)):
        if grown is None:
            aliases.extend(islice(rest, len(own)))
        else:
            aliases += grown.grow(next(rest), gates[i] if gates else ())
    return aliases, probe


def _sum(gradients: list[Tensor]) -> Tensor | None:
    if len(gradients) < 2:
        return gradients[0] if gradients else None
    total = gradients[0] + gradients[1]
    for gradient in gradients[2:]:
        # In place like autograd's own accumulation, unless this pass is itself differentiated.
        total = total + gradient if torch.is_grad_enabled() else total.add_(gradient)
    return total


_Item = Tensor | list[Scalar] | None
"""What stands for one norm, or the norms that a tensor's branches have found."""


def _measured(
    users: Sequence[Sequence[int]],
    groups: Sequence[Sequence[Tensor | None]],
    branches: Sequence[_Branches | None],
) -> list[_Item]:
    items: list[_Item] = []
    for own, group, grown in zip_longest(users, groups, branches):
        if grown is None:
            items += [g for user, g in zip(own, group, strict=True) if user != TOGETHER]
        else:
            items.append(grown.taken())
    return items


def _numbers(items: Sequence[_Item], scale: Tensor, *, quick: bool) -> bytes | Tensor | None:
    present = [x for x in items if isinstance(x, Tensor)]
    if not present:
        return None
    found = quick_norms(present) if quick else norms(present)
    if len(present) < len(items):
        found = _beside_nothing(items, found)
    return packed([*found, read_one(scale)], scale.device)


def _beside_nothing(items: Sequence[_Item], found: Sequence[Scalar]) -> list[Scalar]:
    rest = iter(found)
    numbers: list[Scalar] = []
    for item in items:
        if isinstance(item, list):
            numbers += item
        else:
            numbers.append(0.0 if item is None else next(rest))
    return numbers


def _gram(
    users: Sequence[Sequence[int]], groups: Sequence[Sequence[Tensor | None]], terms: int
) -> Tensor | None:
    total: Tensor | None = None
    for own, group in zip(users, groups, strict=True):
        by_term = {u: real_parts(g) for u, g in zip(own, group, strict=True) if g is not None}
        if not by_term:
            continue
        like = next(iter(by_term.values()))
        like = like.to(torch.promote_types(like.dtype, torch.float32))
        zero = torch.zeros_like(like)
        rows = torch.stack([by_term.get(term, zero).to(like).flatten() for term in range(terms)])
        product = rows @ rows.T
        total = product if total is None else total + product.to(total)
    return total


def _is_many(gradient: Tensor) -> bool:
    """Whether it is of many backward passes under vmap, as ``is_grads_batched`` makes them."""
    return _is_batched(gradient) or _is_batched_by_autograd(gradient)


def _passed(gradient: Tensor | None, gate: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or gate is None else torch.where(gate, gradient, 0.0)
