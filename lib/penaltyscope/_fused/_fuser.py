"""The fused engine: all calls that have a closed form, evaluated in one walk over the rows."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from penaltyscope._fused._catalogue import Call, Request, request
from penaltyscope._fused._evaluation import Case
from penaltyscope._fused._form import Situation
from penaltyscope._fused._function import Plain, attach
from penaltyscope._fused._plan import Plan, make_plan
from penaltyscope._fused._solve import Solution, solve
from penaltyscope._scalar import Extremes, read_one, sum_dtype, tensor

_MOST_PLANS = 64

Attach: TypeAlias = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor | None]], Tensor]
"""From a total, 0-d, which has to be no one else's, tensors, and the gradients by them, to the
differentiable total."""


class Fusion(NamedTuple):
    """The calls that were taken, and what they evaluate to."""

    taken: tuple[int, ...]
    """Positions of those calls, ``F`` of them."""
    solution: Solution
    calls: Sequence[Call]
    weights: Sequence[float | Tensor]

    def total(self, tensors: Sequence[Tensor]) -> Tensor:
        """The sum of contributions, 0-d, differentiable by tensors and by weights that are tensors.

        Args:
            tensors: those that were fused, or aliases of them.
        """
        gradients = [self.solution.gradients.get(i) for i in range(len(tensors))]
        kind = self.solution.dtype, tensors[self.calls[0].tensors[0]].device
        learned = []
        for w, value in zip(self.weights, self.solution.values, strict=True):
            if isinstance(w, Tensor) and w.requires_grad:
                learned.append(w)
                gradients.append(torch.where(w.detach() == 0, 0.0, tensor(value, *kind)))
        plain = partial(_plain, self.calls, self.weights)
        return attach(self.solution.total, kind, plain, tensors, learned, gradients)

    def repeated(self) -> Callable[[Sequence[float]], Attach]:
        """From weights, numbers all of them, to what makes the same calls' total differentiable."""
        return partial(_weighed, self.calls)


class Fuser:
    """Evaluates calls, and keeps what it prepares for them."""

    def __init__(self) -> None:
        self._plans: dict[tuple[Request, ...], dict[Hashable, list[Plan]]] = {}
        self._asked: _Asked | None = None

    def __call__(
        self,
        calls: Sequence[Call],
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        *,
        extremes: Sequence[Extremes | None],
        gram: bool = False,
    ) -> Fusion | None:
        """Evaluates those of the calls that have a closed form; None if none has.

        With ``gram`` it is all of them or none.

        Args:
            calls: penalties, with positions of their tensors; the same object for the same calls
                saves time.
            tensors: distinct; gradients are by those that require grad, where autograd records.
            weights: of the calls, numbers or 0-d tensors.
            extremes: smallest and largest element of each tensor, None for an empty one.
            gram: whether inner products of the calls' gradients are wanted.

        Raises:
            TypeError: as the penalties themselves do.
            ValueError: likewise.
        """
        recording = torch.is_grad_enabled()
        # Without no_grad(), which costs as much as an operation: nothing here requires a gradient.
        with full_precision(tensors):
            known = [read_one(w.detach()) if isinstance(w, Tensor) else float(w) for w in weights]
            asked = self._ask(calls, tuple([isinstance(w, Tensor) or w != 0 for w in known]))
            if not asked.places or (gram and len(asked.places) < len(calls)):
                return None
            case = Case(
                asked.requests,
                [known[i] for i in asked.places],
                [x.detach() if x.requires_grad else x for x in tensors],
                asked.masks,
                [recording and x.requires_grad for x in tensors],
            )
            plan = _plan(asked.plans, case, extremes, gram)
            if not plan.forms or (gram and len(plan.forms) < len(calls)):
                return None
            taken = tuple([asked.places[i] for i in plan.forms])
            solution = solve(plan, case, gram=gram)
        own = [weights[i] for i in taken]
        return Fusion(taken, solution, [calls[i] for i in taken], own)

    def _ask(self, calls: Sequence[Call], active: tuple[bool, ...]) -> "_Asked":
        last = self._asked
        if last is None or last.calls is not calls or last.active != active:
            masks: list[Tensor] = []
            found = [request(call, masks, active=a) for call, a in zip(calls, active, strict=True)]
            places = tuple(i for i, asked in enumerate(found) if asked is not None)
            requests = tuple(asked for asked in found if asked is not None)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plans = self._plans.setdefault(requests, {})
            last = self._asked = _Asked(calls, active, places, requests, masks, plans)
        return last


@dataclass(frozen=True, slots=True)
class _Asked:
    """Calls, and the requests of those that may have a closed form."""

    calls: Sequence[Call]
    active: tuple[bool, ...]
    places: tuple[int, ...]
    requests: tuple[Request, ...]
    masks: Sequence[Tensor]
    plans: dict[Hashable, list[Plan]]
    """For requests like these."""


def _plan(
    plans: dict[Hashable, list[Plan]],
    case: Case,
    extremes: Sequence[Extremes | None],
    gram: bool,
) -> Plan:
    situation = Situation.of([x.shape for x in case.tensors], extremes)
    classes = classes_of(case.tensors)
    known = plans.setdefault((classes, tuple(case.wanted), gram), [])
    for plan in known:
        if plan.holds(situation):
            return plan
    plan = make_plan(case.requests, classes, case.wanted, situation, gram=gram)
    known.append(plan)
    return plan


def _weighed(calls: Sequence[Call], weights: Sequence[float]) -> Attach:
    return partial(_attached, partial(_plain, calls, weights))


def _attached(
    plain: Plain, total: Tensor, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Tensor:
    kind = total.dtype, total.device
    return attach(total, kind, plain, tensors, (), gradients, is_own=True)


def _plain(
    calls: Sequence[Call],
    weights: Sequence[float | Tensor],
    tensors: Sequence[Tensor],
    learned: Sequence[Tensor],
) -> Tensor:
    """The sum of contributions by the plain functions."""
    rest = iter(learned)
    total = torch.zeros((), device=tensors[0].device)
    for weight, call in zip(weights, calls, strict=True):
        if isinstance(weight, Tensor):
            now = next(rest) if weight.requires_grad else weight
            # Where only the device knows that it is 0, nothing comes back: 0 * NaN is NaN.
            gated = [torch.where(now == 0, x.detach(), x) for x in tensors]
            total = total + now * torch.where(now == 0, 0.0, call(gated))
        elif weight:
            total = total + weight * call(tensors)
    return total


def classes_of(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Equal numbers for tensors that may be combined as they are, -1 for those that may not."""
    kinds = [(x.shape, sum_dtype(x), x.device) for x in tensors]
    return tuple(
        kinds.index(kind) if x.is_floating_point() and x.dim() and x.numel() else -1
        for x, kind in zip(tensors, kinds, strict=True)
    )


def full_precision(tensors: Sequence[Tensor]) -> AbstractContextManager[object]:
    """Without autocast."""
    # Autocast would round Gram matrices to half precision, and with them every small correlation.
    device = tensors[0].device.type if tensors else "cpu"
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
