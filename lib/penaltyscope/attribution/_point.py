"""Where a pipeline was called, and which way its inputs were moving."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from penaltyscope._fused import Call, Fuser, along, may_have_form
from penaltyscope._scalar import extremes
from penaltyscope.attribution._moment import Moment
from penaltyscope.attribution._slope import slope
from penaltyscope.attribution._terms import Application, applications
from penaltyscope.pipeline import Pipeline


class Point:
    """The inputs of a pipeline's call as leaves, and their tangents.

    From here on closed forms, or a backward pass through each term, are cheaper than tangents
    through all of them, of which every small operation makes several.
    """

    def __init__(
        self, arguments: tuple[Any, ...], keywords: Mapping[str, Any], moment: Moment
    ) -> None:
        self._moment = moment
        self._leaves: dict[int, tuple[Tensor, Tensor | None]] = {}
        """By identity: one tensor under two names stays one."""
        self._base: Tensor | None = None
        if (base := keywords.get("base")) is not None:
            tangent = forward_ad.unpack_dual(base).tangent
            self._base = torch.zeros_like(base) if tangent is None else tangent
        self._arguments = tuple(self._leaf(x) for x in arguments)
        self._keywords = {
            name: x if name == "base" else self._leaf(x) for name, x in keywords.items()
        }

    def slopes(
        self,
        pipeline: Pipeline,
        wanted: Sequence[bool],
        parameters: Sequence[Tensor],
        direction: Sequence[Tensor],
        fuser: Fuser,
    ) -> list[Tensor | None]:
        """Of the values of the wanted terms, and of the task loss last.

        A term depends on the parameters through its inputs, and perhaps directly.
        """
        moving = [(leaf, tangent) for leaf, tangent in self._leaves.values() if tangent is not None]
        of = [*(leaf for leaf, _ in moving), *parameters]
        direction = [*(tangent for _, tangent in moving), *direction]
        with self._moment.revisited(), torch.enable_grad():
            applied = applications(pipeline, wanted, self._arguments, self._keywords)
            known = self._closed_slopes(applied, fuser)
            for i, a in enumerate(applied):
                if a is not None and i not in known:
                    known[i] = slope(a.value(), of, direction)
        return [*map(known.get, range(len(applied))), self._base]

    def _closed_slopes(
        self, applied: Sequence[Application | None], fuser: Fuser
    ) -> dict[int, Tensor | None]:
        """Of the terms that have a closed form, and so depend on nothing but their inputs."""
        closed = {i: a for i, a in enumerate(applied) if a and may_have_form(a.penalty)}
        if not closed:
            return {}
        leaves = [leaf for leaf, _ in self._leaves.values()]
        place = {id(leaf): i for i, leaf in enumerate(leaves)}
        calls = [
            Call(a.penalty, tuple(place[id(x)] for x in a.tensors), a.options)
            for a in closed.values()
        ]
        # A direction is one more call, whose inner products with the others are asked for.
        tangents = [(i, t) for i, (_, t) in enumerate(self._leaves.values()) if t is not None]
        tensors = [*leaves, *(tangent for _, tangent in tangents)]
        calls += [Call(along, (i, len(leaves) + n), {}) for n, (i, _) in enumerate(tangents)]
        ranges = [extremes(x) for x in tensors]
        fusion = fuser(calls, tensors, (1.0,) * len(calls), extremes=ranges, gram=True)
        if fusion is None or fusion.solution.gram is None:
            return {}
        return dict(zip(closed, fusion.solution.gram[:, len(closed) :].sum(dim=1), strict=False))

    def _leaf(self, x: object) -> object:
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self._leaves:
            primal, tangent = forward_ad.unpack_dual(x)
            leaf = primal.detach()
            if tangent is not None:
                leaf.requires_grad_()
            self._leaves[id(x)] = leaf, tangent
        return self._leaves[id(x)][0]
