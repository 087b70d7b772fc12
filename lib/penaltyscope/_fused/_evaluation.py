"""One evaluation: factors, walks over the rows, and the numbers that they lead to."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from penaltyscope._fused._catalogue import Request
from penaltyscope._fused._form import Form, Whole
from penaltyscope._fused._plan import Numbers, Plan, Slope, Task
from penaltyscope._fused._program import Leaf
from penaltyscope._fused._walk import walk
from penaltyscope._scalar import Scalar, read_one, sum_dtype, times, wide
from penaltyscope.penalties._reduction import aligned, check_mask


class Case(NamedTuple):
    """What a plan is applied to."""

    requests: Sequence[Request]
    """Of the calls that may be taken."""
    weights: Sequence[Scalar]
    """Of these calls: numbers, or 0-d tensors where to read them would be to wait."""
    tensors: Sequence[Tensor]
    """Without a graph."""
    masks: Sequence[Tensor]
    """By the numbers that requests name."""
    wanted: Sequence[bool]
    """For each tensor whether the gradient by it is."""


class Evaluation:
    """What is known of a case so far."""

    def __init__(self, case: Case, plan: Plan) -> None:
        self.case = case
        self.values: dict[int, Scalar] = {}
        """By call."""
        self.factors: dict[int, Scalar] = {}
        """By call: what its sums and slopes are multiplied with."""
        self.numbers: list[Scalar] = [0.0] * plan.numbers
        """What came out of programs."""
        self.totals: dict[int, Tensor] = {}
        """By tensor ``[N, V]``: the gradient of the weighted total."""
        self._matrices: dict[int, Tensor] = {}
        self._wholes: dict[tuple[int, int], Tensor] = {}
        self._coefficients: dict[tuple[int, int], Scalar] = {}
        self._run(plan)

    def sum(self, numbers: Numbers) -> Scalar:
        """``Σ coefficient * number``."""
        total: Scalar = 0.0
        for c, place in numbers:
            total = total + c * self.numbers[place]
        return total

    def _run(self, plan: Plan) -> None:
        if self.case.masks:
            self._check_masks(plan.forms)
        for task in plan.early:
            self._walk(task)
        for call, form in plan.forms.items():
            if isinstance(form, Form):
                self._settle(call, form, plan.sums[call])
            else:
                self._evaluate(call, form)
        self._weigh(plan.slopes)
        for task in plan.main:
            self._walk(task)
        for call, sums in plan.sums.items():
            if call not in self.values:
                self.values[call] = self.factors[call] * self.sum(sums)

    def _check_masks(self, forms: Mapping[int, Form | Whole]) -> None:
        for call, form in forms.items():
            if (mask := self._mask(call)) is not None:
                check_mask(mask, self._counted(call, form))

    def _settle(self, call: int, form: Form, sums: Numbers) -> None:
        factor: Scalar = self._share(call, form) if form.reduction == "mean" else 1.0
        if form.settle is not None:
            self.values[call], factor = form.settle(self.sum(sums), factor)
        self.factors[call] = factor

    def _share(self, call: int, form: Form) -> Scalar:
        """One over the number of elements, or of positions, that count."""
        if (mask := self._mask(call)) is not None:
            return read_one(masked_share(self._counted(call, form), mask))
        x = self.case.tensors[self.case.requests[call].tensors[0]]
        return 1.0 / (x.numel() if form.per == "element" else x.numel() // x.shape[-1])

    def _evaluate(self, call: int, form: Whole) -> None:
        request = self.case.requests[call]
        tensors = [self.case.tensors[x] for x in request.tensors]
        wanted = [request.active and self.case.wanted[x] for x in request.tensors]
        value, slopes = form.evaluate(tensors, self._mask(call), wanted)
        self.values[call], self.factors[call] = read_one(value), 1.0
        for x, slope in zip(request.tensors, slopes, strict=True):
            if slope is not None:
                self._wholes[call, x] = slope.reshape(self._matrix(x).shape)

    def _weigh(self, slopes: Sequence[Slope]) -> None:
        for call, x, parts, _ in slopes:
            pull = times(self.case.weights[call], self.factors[call])
            for c, field in parts:
                key = x, field
                self._coefficients[key] = self._coefficients.get(key, 0.0) + c * pull
            if x not in self.totals:
                like = self._matrix(x)
                self.totals[x] = torch.empty_like(like, dtype=sum_dtype(like))

    def _walk(self, task: Task) -> None:
        leaves = [self._leaf(leaf, task.tensor) for leaf in task.program.leaves]
        walk(task, leaves, self._matrix(task.tensor), self.numbers)

    def _leaf(self, leaf: Leaf, tensor: int) -> Tensor | Scalar | None:
        kind, of, which = leaf
        if kind == "rows":
            return self._matrix(of)
        if kind == "coefficient":
            return self._coefficients[of, which]
        if kind == "total":
            return self.totals[of]
        if kind == "whole":
            return self._wholes[of, which]
        if kind == "dropped":
            return dropped_rows(self.case.masks[of], self.case.tensors[tensor])
        return None

    def _mask(self, call: int) -> Tensor | None:
        mask = self.case.requests[call].mask
        return None if mask is None else self.case.masks[mask]

    def _counted(self, call: int, form: Form | Whole) -> torch.Size:
        shape = self.case.tensors[self.case.requests[call].tensors[0]].shape
        return shape if form.per == "element" else shape[:-1]

    def _matrix(self, x: int) -> Tensor:
        if x not in self._matrices:
            tensor = self.case.tensors[x]
            rows = tensor if tensor.dim() == 2 else tensor.reshape(-1, tensor.shape[-1])
            self._matrices[x] = rows.contiguous()
        return self._matrices[x]


def masked_share(shape: Sequence[int], mask: Tensor) -> Tensor:
    """One over the number of elements that the mask keeps, 0-d."""
    kept = mask.sum() * math.prod(shape[mask.dim() :])
    return 1.0 / wide(kept.clamp(min=1))


def dropped_rows(mask: Tensor, x: Tensor) -> Tensor:
    """``[N, 1]``, or ``[N, V]`` if the mask tells elements apart: true where nothing counts."""
    dropped = ~aligned(mask, x)
    if mask.dim() < x.dim():
        dropped = dropped[..., :1].expand(*x.shape[:-1], 1)
    return dropped.reshape(-1, dropped.shape[-1])
