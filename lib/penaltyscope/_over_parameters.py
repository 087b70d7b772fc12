"""Terms over parameters: the norm of their gradient by these, which no input sees.

Such a term depends on nothing else. So the norm need not wait for the backward pass, which finds
the gradients of all terms by a parameter already added up.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn

from penaltyscope import penalties
from penaltyscope._fused import (
    Deferrable,
    Plain,
    attach,
    deferred,
    elastic_net_size,
    full_precision,
    l1_size,
    l2_size,
    lasso_groups,
)
from penaltyscope._norm import joint_norm
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Scalar, read_one
from penaltyscope.penalties._parameters import OverParameters
from penaltyscope.term import Term

_PURE: Final[frozenset[Callable[..., Tensor]]] = frozenset(
    {
        penalties.elastic_net,
        penalties.entropy,
        penalties.group_lasso,
        penalties.l1,
        penalties.l2,
        penalties.orthogonality,
        penalties.output_magnitude_penalty,
    }
)
"""Penalties that depend on one tensor and their options alone."""

_DEFERRABLE: Final[Mapping[Callable[..., Tensor], Callable[..., Deferrable | None]]] = {
    penalties.elastic_net: elastic_net_size,
    penalties.group_lasso: lasso_groups,
    penalties.l1: l1_size,
    penalties.l2: l2_size,
}
"""Those of them whose gradients need not be kept, with their options; None where they must."""


class Measured(NamedTuple):
    """A term over parameters at one evaluation."""

    value: Tensor
    """0-d, differentiable."""
    norm: Scalar
    """Of its gradient by all parameters together that require grad."""


def is_over_parameters(term: Term) -> bool:
    """Whether a term is over parameters."""
    return isinstance(term.penalty, OverParameters)


def pulls_on_inputs(term: Term) -> bool:
    """Whether the gradient of a term by the pipeline's inputs is to be measured."""
    return term.differentiable and not is_over_parameters(term)


def inputs_of(term: Term, names: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers of the inputs that a term depends on; one over parameters ignores them."""
    return () if is_over_parameters(term) else tuple(names[name] for name in term.inputs)


def evaluate(
    terms: Sequence[Term], over: Sequence[int], options: Mapping[str, Mapping[str, object]]
) -> dict[int, Measured]:
    """Evaluates terms over parameters, all but those whose gradient is not to be had apart.

    Args:
        terms: all of the pipeline's.
        over: which of them.
        options: for some terms' names, options that override the term's own in this call.

    Raises:
        TypeError: as the penalties themselves do.
        ValueError: likewise.
    """
    found = {}
    for t in over:
        chosen = {**terms[t].options, **options.get(terms[t].name, {})}
        one = _measured(cast("OverParameters", terms[t].penalty), chosen)
        if one is not None:
            found[t] = one
    return found


def norms(found: Mapping[int, Measured], weights: Sequence[float | Tensor]) -> list[Scalar]:
    """The norms of what was measured; NaN where the weight, one of all terms', is 0."""
    return [_counting(one.norm, weights[t]) for t, one in found.items()]


def _counting(norm: Scalar, weight: float | Tensor) -> Scalar:
    known = read_one(weight.detach()) if isinstance(weight, Tensor) else weight
    if isinstance(known, Tensor):
        return torch.where(known == 0, math.nan, norm)
    return norm if known else math.nan


def _measured(penalty: OverParameters, options: Mapping[str, object]) -> Measured | None:
    """None where no parameter requires grad or one is no ordinary tensor (a shard, say).

    Also while all this is traced or transformed, and of a penalty that is not built in where a
    parameter has hooks: they would hear of one gradient too many.
    """
    parameters, moving = penalty.parameters, [p for p in penalty.parameters if p.requires_grad]
    if not moving or _is_traced() or not _are_ordinary(parameters):
        return None
    if isinstance(penalty.penalty, FunctionType) and penalty.penalty in _PURE:
        plain = partial(_plain, penalty, options, moving)
        what = _deferrable(penalty, options)
        if what is None:
            return _apart(plain, moving)
        still = [p for p in parameters if not p.requires_grad]
        return Measured(*deferred(what, plain, moving, still))
    if any(p._backward_hooks for p in moving):  # noqa: SLF001  # there is no public way to ask
        return None
    return _within(penalty, options, moving)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()  # noqa: SLF001


def _are_ordinary(parameters: Sequence[nn.Parameter]) -> bool:
    kinds = {(type(p), p.layout, p.is_floating_point(), p.device) for p in parameters}
    return len(kinds) == 1 and kinds.pop()[:3] == (nn.Parameter, torch.strided, True)


def _deferrable(penalty: OverParameters, options: Mapping[str, object]) -> Deferrable | None:
    try:
        what = _DEFERRABLE[penalty.penalty](**options)
        return what if what is None or what.takes([*penalty.parameters]) else None
    except (KeyError, TypeError):  # what is out of order is the penalty's to refuse
        return None


def _apart(plain: Plain, moving: Sequence[nn.Parameter]) -> Measured:
    """Differentiates it at once, so that the backward pass only has to multiply."""
    leaves = [accumulator(p.detach()).requires_grad_() for p in moving]
    with torch.enable_grad(), full_precision(leaves):
        value = plain(leaves, ())
        gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
    kind = value.dtype, value.device
    total = attach(value.detach(), kind, plain, moving, (), gradients, is_own=True)
    return Measured(total, joint_norm(gradients))


def _plain(
    penalty: OverParameters,
    options: Mapping[str, object],
    moving: Sequence[nn.Parameter],
    tensors: Sequence[Tensor],
    _weights: Sequence[Tensor],
) -> Tensor:
    """The penalty of tensors that stand for the parameters that move."""
    given = dict(zip(map(id, moving), tensors, strict=True))
    return penalty.of([given.get(id(p), p) for p in penalty.parameters], **options)


def _within(
    penalty: OverParameters, options: Mapping[str, object], moving: Sequence[nn.Parameter]
) -> Measured:
    """Differentiates it in the graph as it is.

    It may do anything: draw random numbers, know its parameters again, hold others that learn.
    """
    value = penalty(**options)
    found: list[Tensor] = []
    if value.requires_grad:
        gradients = torch.autograd.grad(value, moving, retain_graph=True, allow_unused=True)
        found = [g for g in gradients if g is not None]
    return Measured(value, joint_norm(found) if found else 0.0)
