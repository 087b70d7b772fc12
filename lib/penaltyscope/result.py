"""What one evaluation of a pipeline returns, and what it leaves for telemetry."""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from penaltyscope._fan import GradientTap
from penaltyscope._norm import together
from penaltyscope._scalar import unpacked
from penaltyscope._weights import constant, weight_tensor
from penaltyscope.gradients import cosines, shares

_HOST = torch.device("cpu")
_STAMP = struct.Struct("3qd")


def stamped(step: int, stop_ns: int, duration: float) -> bytes:
    """Step, start and end in nanoseconds of Unix time as int64, and seconds between as float64."""
    return _STAMP.pack(step, stop_ns - int(duration * 1e9), stop_ns, duration)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How terms map onto the tensors of one evaluation; evaluations that are alike share one."""

    terms: tuple[str, ...]
    enabled: tuple[bool, ...]
    active: tuple[bool, ...]
    """Whether the term counts in the total: enabled and its weight not 0."""
    measured: tuple[bool, ...]
    """Whether a gradient norm of the term can be had."""
    inputs: tuple[tuple[int, ...], ...]
    """For each term the rows of ``Statistics.extremes`` that describe its inputs."""
    allows_negative_infinity: tuple[bool, ...]
    """Whether -inf is an ordinary input of the term: a log-probability of zero."""
    tensors: Mapping[str, int]
    """Name of each input that requires grad, and the number of its tensor."""
    distinct: int
    """How many different tensors the inputs are."""
    known: tuple[tuple[int, int], ...]
    """(term, tensor) of each gradient norm that is there after the forward pass; the number after
    those of the inputs stands for the parameters of all terms over parameters."""
    known_sums: tuple[int, ...]
    """The tensors whose whole gradient's norm is."""
    tapped: tuple[tuple[int, int], ...]
    """(term, tensor) of each norm that the backward pass brings; times weight and loss scale."""
    tapped_sums: tuple[int, ...]
    """The tensors whose whole gradient's norm it brings; times the loss scale."""

    @property
    def parts(self) -> tuple[int, ...]:
        """The lengths of a row's parts.

        Values ``T``; smallest and largest element of each distinct tensor (NaN if any is); unscaled
        norms, ``known`` and ``known_sums``; the total; and where there is one, the base loss.
        """
        return len(self.terms), 2 * self.distinct, len(self.known), len(self.known_sums)


@dataclass(slots=True, eq=False)
class Statistics:
    """The numbers of one evaluation, on their device, without a graph. Nothing waits for them.

    Not to be changed all the same: one is made at every step, and a frozen one takes several times
    as long to make.
    """

    step: int
    stamp: bytes
    """The step, when it began and ended, and how long it took, as ``stamped`` packs them: whoever
    keeps many has one thing to keep of each."""
    layout: Layout
    weights: tuple[float | Tensor, ...]
    """As they were set or scheduled; numbers are not rounded to the values' dtype."""
    numbers: bytes | Tensor
    """All that the forward pass knows, side by side as the layout says; bytes of float64 where the
    host knew all of them at once."""
    alarming: bool
    """Whether the host has seen, without waiting, that total or base loss is not finite."""
    has_base: bool
    dtype: torch.dtype
    """That of values and total; the row may be wider."""
    tap: GradientTap | None
    """Where the backward pass leaves the other norms; None when it brings none."""
    gram: Tensor | None
    """``[T, T]``, inner products of the terms' weighted gradients if they are known already."""

    @property
    def stop_ns(self) -> int:
        """When it ended, Unix time in nanoseconds."""
        stop_ns: int = _STAMP.unpack(self.stamp)[2]
        return stop_ns

    @property
    def duration(self) -> float:
        """Seconds on the calling thread."""
        duration: float = _STAMP.unpack(self.stamp)[3]
        return duration

    @property
    def row(self) -> Tensor:
        """The numbers as a vector."""
        return unpacked(self.numbers)

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self.numbers.device if isinstance(self.numbers, Tensor) else _HOST

    @property
    def on_host(self) -> bool:
        """Whether they can be read without waiting."""
        return not isinstance(self.numbers, Tensor) or self.numbers.is_cpu

    @property
    def values(self) -> Tensor:
        """``[T]``, unweighted; NaN for a disabled term."""
        return self.row[: len(self.layout.terms)].to(self.dtype)

    @property
    def contributions(self) -> Tensor:
        """``[T]``; 0 for a term that is not active."""
        weights = weight_tensor(self.weights, self.values).detach()
        active = constant(self.layout.active, torch.bool, weights)
        return torch.where(active & (weights != 0), weights * self.values, 0.0)

    def gradient_norms(self) -> Tensor:
        """``[T, S]``, unweighted norm of each term's gradient by tensor; NaN if not measured.

        Where terms are over parameters, these are one more tensor, the last. As wide as they are
        known: the dtype of values may not hold their squares.
        """
        layout, tap = self.layout, self.tap
        tensors = {tensor for _, tensor in (*layout.known, *layout.tapped)}
        shape = len(layout.terms), 1 + max(tensors, default=0)
        row = self.row
        norms = torch.full(shape, torch.nan, dtype=row.dtype, device=row.device)
        tapped = None if tap is None else tap.row
        if tapped is not None:
            norms = norms.to(torch.promote_types(norms.dtype, tapped.dtype))
        for term, measured in enumerate(layout.measured):
            # A tensor that a term does not use is 0 beside one that it does.
            if measured and (tapped is not None or term in dict(layout.known)):
                norms[term] = 0
        for norm, (term, tensor) in zip(self._known()[0], layout.known, strict=True):
            norms[term, tensor] = norm
        if tapped is not None:
            for norm, (term, tensor) in zip(tapped, layout.tapped, strict=False):
                # Where a tensor is 0 there was no gradient: 0 / 0 is NaN, as it should be.
                norms[term, tensor] = norm / (self.weights[term] * tapped[-1]).abs()
        return norms

    def total_gradient_norm(self) -> Tensor:
        """0-d, norm of the total's gradient over all inputs; NaN before the backward pass."""
        known = self._known()[1]
        if self.tap is None:
            parts = known
        elif (row := self.tap.row) is None:
            parts = known.new_full((1,), torch.nan)
        else:
            parts = torch.cat((known, row[len(self.layout.tapped) : -1] / row[-1].abs()))
        if not len(parts):
            parts = known.new_full((1,), torch.nan)
        return together(parts, dim=0).to(self.dtype)

    def _known(self) -> tuple[Tensor, Tensor]:
        first = sum(self.layout.parts[:2])
        middle = first + len(self.layout.known)
        row = self.row
        return row[first:middle], row[middle : middle + len(self.layout.known_sums)]


@dataclass(frozen=True, slots=True)
class TermResult:
    """One term at one evaluation; 0-d tensors without a graph."""

    name: str
    value: Tensor
    weight: Tensor
    contribution: Tensor
    gradient_norm: Tensor


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """Differentiable sums, and the parts they are made of."""

    total: Tensor
    """0-d, differentiable: the sum of contributions."""
    base: Tensor | None
    """0-d, the task loss as it was passed in."""
    loss: Tensor
    """0-d, differentiable: ``base + total``, or ``total`` without a base."""
    statistics: Statistics

    @property
    def values(self) -> Tensor:
        """``[T]``, unweighted; NaN for a disabled term."""
        return self.statistics.values

    @property
    def weights(self) -> Tensor:
        """``[T]``, the weights that were used."""
        # Cloned: it is the caller's to change.
        return weight_tensor(self.statistics.weights, self.values).detach().clone()

    @property
    def contributions(self) -> Tensor:
        """``[T]``, weight times value; 0 for a disabled term or a weight of 0."""
        return self.statistics.contributions

    @property
    def gradient_norms(self) -> Tensor:
        """``[T]``, unweighted norm over all of a term's inputs that require grad.

        That of a term over parameters is over these. NaN until the backward pass has run, and for
        a term that has no gradient or a weight of 0.
        """
        return together(self.statistics.gradient_norms(), dim=1).to(self.statistics.dtype)

    @property
    def gradient_norms_by_input(self) -> Mapping[str, Tensor]:
        """For each input that requires grad the part of ``gradient_norms`` that is its own."""
        norms = self.statistics.gradient_norms().to(self.statistics.dtype)
        return {name: norms[:, i] for name, i in self.statistics.layout.tensors.items()}

    @property
    def total_gradient_norm(self) -> Tensor:
        """0-d, norm of the weighted gradient of ``total`` by the inputs that require grad.

        Terms over parameters have no part in it. NaN until the backward pass has run.
        """
        return self.statistics.total_gradient_norm()

    @property
    def gradient_shares(self) -> Tensor:
        """``[T]``, each term's part of the sum of weighted norms; terms without a norm count 0."""
        return shares(self.weights, self.gradient_norms)

    @property
    def gradient_conflict(self) -> Tensor:
        """``[T, T]``, cosines between the terms' weighted gradients: -1 where two pull apart.

        NaN until the backward pass has run, for a term without a gradient by the inputs, and
        everywhere unless the pipeline was made with ``conflict=True``.
        """
        statistics, values = self.statistics, self.values
        gram = statistics.gram if statistics.tap is None else statistics.tap.gram
        if gram is None:
            return values.new_full((len(values), len(values)), math.nan)
        return cosines(gram)

    @property
    def terms(self) -> Mapping[str, TermResult]:
        """The terms by name, in the pipeline's order."""
        columns = (self.values, self.weights, self.contributions, self.gradient_norms)
        rows = zip(self.statistics.layout.terms, *columns, strict=True)
        return MappingProxyType({name: TermResult(name, *row) for name, *row in rows})

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, ready for JSON; waits for the device.

        The keys are those of Tinkex's ``CustomLossOutput``; a norm that was not measured is None.
        """
        return {
            "loss_total": self.loss.item(),
            "base_loss": None if self.base is None else {"value": self.base.item()},
            "regularizers": {
                name: {
                    "value": value,
                    "weight": weight,
                    "contribution": contribution,
                    "grad_norm": norm,
                    "grad_norm_weighted": None if norm is None else abs(weight) * norm,
                }
                for name, value, weight, contribution, norm in self._numbers()
            },
            "regularizer_total": self.total.item(),
            "total_grad_norm": _measured(self.total_gradient_norm.item()),
        }

    def to_metrics(self) -> dict[str, float]:
        """A flat map of plain numbers with NxPenalties' keys; waits for the device.

        ``<name>``, ``<name>_weighted`` and ``total``, with ``<name>_grad_norm`` and
        ``total_grad_norm`` where they were measured. A disabled term has no key.
        """
        metrics: dict[str, float] = {}
        for (name, value, _, contribution, norm), enabled in zip(
            self._numbers(), self.statistics.layout.enabled, strict=True
        ):
            if enabled:
                metrics |= {name: value, f"{name}_weighted": contribution}
            if norm is not None:
                metrics[f"{name}_grad_norm"] = norm
        metrics["total"] = self.total.item()
        if (norm := _measured(self.total_gradient_norm.item())) is not None:
            metrics["total_grad_norm"] = norm
        return metrics

    def _numbers(self) -> Iterator[tuple[str, float, float, float, float | None]]:
        return zip(
            self.statistics.layout.terms,
            self.values.tolist(),
            [float(weight) for weight in self.statistics.weights],
            self.contributions.tolist(),
            [_measured(norm) for norm in self.gradient_norms.tolist()],
            strict=True,
        )


def _measured(norm: float) -> float | None:
    return None if math.isnan(norm) else norm
