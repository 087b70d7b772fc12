"""What a probe found out: each term's part in the update of the parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from penaltyscope._weights import weight_tensor
from penaltyscope.gradients import cosines
from penaltyscope.result import Statistics

Method = Literal["alignment", "last_layer", "all_parameters"]
"""How it was measured, by ``UpdateAlignment``, ``LastLayer`` or ``AllParameters``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """How the terms of a pipeline pull on parameters, at one step; tensors without a graph.

    The direction is that of the total gradient, against which an optimizer moves. A term that is
    disabled or not differentiable has NaN.
    """

    method: Method
    step: int
    terms: tuple[str, ...]
    weights: Tensor
    """``[T]``; the mean over accumulated evaluations, like all that follows."""
    slopes: Tensor
    """``[T]``, how fast each unweighted value rises for a unit step along the direction."""
    pulls: Tensor
    """``[T]``, the same of weight times value: positive drives the update, negative opposes it."""
    base_pull: Tensor
    """0-d, the pull of the task loss; NaN without one."""
    direction_norm: Tensor
    """0-d, length of the total gradient, as scaled and clipped as it was found."""
    norms: Tensor
    """``[T]``, unweighted norm of each term's gradient; NaN where the method measures none."""
    conflict: Tensor | None = None
    """``[T, T]``, cosines between the terms' weighted gradients; None if not measured."""
    norms_by_module: Mapping[str, Tensor] = field(default_factory=dict)
    """``norms`` split by group of parameters, each ``[T]``; empty if not measured."""

    @property
    def shares(self) -> Tensor:
        """``[T]``, each term's part of the loss's fall; with ``base_share`` they sum to 1."""
        return self.pulls / self._pull()

    @property
    def base_share(self) -> Tensor:
        """0-d, the task loss's part; NaN without one."""
        return self.base_pull / self._pull()

    @property
    def cosines(self) -> Tensor:
        """``[T]``, between each weighted gradient and the direction; NaN without norms."""
        return (self.weights.sign() * self.slopes / self.norms).clamp(-1, 1)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON that takes NaN; waits for the device."""
        columns = (self.weights, self.slopes, self.pulls, self.shares, self.norms, self.cosines)
        names = ("weight", "slope", "pull", "share", "norm", "cosine")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return {
            "method": self.method,
            "step": self.step,
            "base_pull": self.base_pull.item(),
            "base_share": self.base_share.item(),
            "direction_norm": self.direction_norm.item(),
            "terms": {
                term: dict(zip(names, row, strict=True))
                for term, row in zip(self.terms, rows, strict=True)
            },
        }

    def _pull(self) -> Tensor:
        return self.pulls.nansum() + self.base_pull.nan_to_num()


def from_rates(
    method: Method,
    statistics: Sequence[Statistics],
    measured: Sequence[bool],
    rates: Tensor,
    *,
    has_base: bool,
    direction_norm: Tensor,
) -> Attribution:
    """From derivatives along a direction that is not of unit length.

    Args:
        method: how they were had.
        statistics: of the ``M`` evaluations that the direction was accumulated over.
        measured: for each term whether its rates mean anything.
        rates: ``[M, T + 1]``, of the terms' values and of the task loss.
        has_base: whether there is a task loss.
        direction_norm: 0-d.
    """
    weights = torch.stack([weight_tensor(s.weights, rates).detach() for s in statistics])
    slopes = rates / direction_norm
    # A value that is not finite has such a rate too, which a weight of 0 keeps out.
    pulls = torch.where(weights == 0, 0.0, weights * slopes[:, :-1])
    mean = _only([*measured, has_base], slopes.mean(0))
    return Attribution(
        method=method,
        step=statistics[-1].step,
        terms=statistics[-1].layout.terms,
        weights=weights.mean(0),
        slopes=mean[:-1],
        pulls=_only(measured, pulls.mean(0)),
        base_pull=mean[-1],
        direction_norm=direction_norm,
        norms=torch.full_like(slopes[0, :-1], torch.nan),
    )


def from_gram(
    method: Method,
    statistics: Statistics,
    measured: Sequence[bool],
    gram: Tensor,
    *,
    has_base: bool,
    norms_by_module: Mapping[str, Tensor] | None = None,
) -> Attribution:
    """From inner products of gradients.

    Args:
        method: how they were had.
        statistics: of the evaluation.
        measured: for each term whether it has a gradient.
        gram: ``[T + 1, T + 1]``, between the terms' unweighted gradients and the task loss's.
        has_base: whether there is a task loss.
        norms_by_module: unweighted norms by group of parameters.
    """
    weights = weight_tensor(statistics.weights, gram).detach()
    counted = torch.tensor([*measured, has_base]).to(gram.device, non_blocking=True)
    factors = torch.cat((weights, weights.new_ones(1))) * counted
    products = torch.where(factors == 0, 0.0, gram * factors).sum(1)
    length = torch.where(factors == 0, 0.0, products * factors).sum().clamp_min(0).sqrt()
    slopes = products / length
    signs = weights.sign()
    blind = torch.full_like(weights, torch.nan)
    return Attribution(
        method=method,
        step=statistics.step,
        terms=statistics.layout.terms,
        weights=weights,
        slopes=_only(measured, slopes[:-1]),
        pulls=_only(measured, torch.where(weights == 0, 0.0, weights * slopes[:-1])),
        base_pull=_only([has_base], slopes[-1:]).squeeze(0),
        direction_norm=length,
        norms=_only(measured, gram.diagonal().sqrt()[:-1]),
        conflict=cosines(gram[:-1, :-1]) * signs[:, None] * signs[None, :],
        norms_by_module={
            name: torch.where(counted[:-1], norms, blind)
            for name, norms in (norms_by_module or {}).items()
        },
    )


def _only(measured: Sequence[bool], column: Tensor) -> Tensor:
    mask = torch.tensor(measured).to(column.device, non_blocking=True)
    return torch.where(mask, column, torch.nan)
