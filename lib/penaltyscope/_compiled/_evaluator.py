"""A graph with all that it needs from step to step."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from penaltyscope._compiled._apart import Backend
from penaltyscope._compiled._assumption import Assumption
from penaltyscope._compiled._graph import Blueprint, Inputs
from penaltyscope._compiled._repeat import Repeat
from penaltyscope._compiled._runner import Runner
from penaltyscope._compiled._solution import Found, Selection
from penaltyscope._compiled._tables import Tables
from penaltyscope._compiled._traced import Traced
from penaltyscope._fused import Form
from penaltyscope._scalar import constants, on_host, vector
from penaltyscope.penalties._reduction import check_mask


class Evaluator:
    """Runs a graph, and keeps what it prepares for that."""

    def __init__(
        self, blueprint: Blueprint, tables: Tables, assumption: Assumption, backend: Backend
    ) -> None:
        self.assumption = assumption
        self._blueprint = blueprint
        self._tables = tables
        self._run = Runner(backend)
        self._last_key: object = None
        """What was prepared for last, but for weights whose numbers are not known."""
        self._last: tuple[Tensor, Selection]
        self._shares: dict[tuple[torch.Size, ...], tuple[float, ...]] = {}
        self._selections: dict[tuple[tuple[bool, ...], tuple[bool | None, ...]], Selection] = {}

    def __call__(
        self,
        tensors: Sequence[Tensor],
        masks: Sequence[Tensor],
        traced: Mapping[int, Traced],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> Found | None:
        """The answer for the calls that are enabled; None if another engine has to find it.

        Args:
            tensors: without a graph.
            masks: by the numbers that the blueprint names.
            traced: by call, those without a closed form.
            weights: of all calls.
            enabled: for each.

        Raises:
            RuntimeError: there is no C++ compiler where one is needed.
            ValueError: a mask does not fit.
        """
        if masks:
            self._check(tensors, masks)
        scales, selection = self._prepare(tensors, weights, enabled)
        outputs = self._run(self._blueprint, self._tables, Inputs(tensors, masks, traced, scales))
        if outputs is None:
            return None
        found = selection.read(outputs, tensors)
        if found.overflowed or not self.assumption.was_right(tensors, found.ranges):
            return None
        return found

    def repeat(self, tensors: Sequence[Tensor]) -> Repeat | None:
        """The last evaluation, of these tensors alone; None where it cannot be had again."""
        if self._last_key is None or not on_host(tensors[0]):
            return None
        scales, selection = self._last
        direct = self._run.direct(Inputs([x.detach() for x in tensors], (), {}, scales))
        whole = selection.is_whole or not self._tables.products
        if direct is None or not whole:
            return None
        return Repeat(direct, scales, selection.places, self.assumption, len(tensors))

    def _prepare(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float | Tensor],
        enabled: Sequence[bool],
    ) -> tuple[Tensor, Selection]:
        own = [w if on else 0.0 for w, on in zip(weights, enabled, strict=True)]
        key = [x.shape for x in tensors], own, enabled
        known = not any(isinstance(w, Tensor) for w in own)
        if known and key == self._last_key:
            return self._last
        prepared = self._scales(tensors, own), self._selection(own, enabled)
        self._last_key, self._last = key if known else None, prepared
        return prepared

    def _selection(self, weights: Sequence[float | Tensor], enabled: Sequence[bool]) -> Selection:
        counted = tuple([None if isinstance(w, Tensor) else w != 0 for w in weights])
        key = tuple(enabled), counted
        selection = self._selections.get(key)
        if selection is None:
            rows = [row for row, on in enumerate(enabled) if on]
            selection = self._selections[key] = Selection(self._blueprint, rows, counted)
        return selection

    def _scales(self, tensors: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
        """``[2, F]``, weights and shares; not to be changed in place."""
        shapes = tuple([x.shape for x in tensors])
        shares = self._shares.get(shapes)
        if shares is None:
            calls = self._blueprint.plan.forms
            shares = self._shares[shapes] = tuple(self._share(call, shapes) for call in calls)
        device = tensors[0].device
        if any(isinstance(weight, Tensor) for weight in weights):
            like = tensors[0].new_empty(0, dtype=torch.float64)
            known = [w.detach() if isinstance(w, Tensor) else w for w in weights]
            return torch.stack([vector(known, like), vector(shares, like)])
        return constants((*weights, *shares), torch.float64, device).view(2, -1)

    def _share(self, call: int, shapes: Sequence[torch.Size]) -> float:
        form, (own, mask) = self._blueprint.plan.forms[call], self._blueprint.arguments[call]
        if not isinstance(form, Form) or form.reduction != "mean" or mask is not None:
            return 1.0
        shape = shapes[own[0]]
        return 1.0 / math.prod(shape if form.per == "element" else shape[:-1])

    def _check(self, tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        # Here, because an error inside of a graph would be the compiler's.
        for call, form in self._blueprint.plan.forms.items():
            own, mask = self._blueprint.arguments[call]
            if mask is not None:
                shape = tensors[own[0]].shape
                check_mask(masks[mask], shape if form.per == "element" else shape[:-1])
