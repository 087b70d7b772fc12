"""Where a pipeline was called, and which way its inputs were moving."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from penaltyscope.attribution._moment import Moment
from penaltyscope.attribution._slope import slope
from penaltyscope.attribution._terms import term_values
from penaltyscope.pipeline import Pipeline


class Point:
    """The inputs of a pipeline's call as leaves, and their tangents.

    From here on a backward pass through each term is cheaper than tangents through all of them, of
    which every small operation makes several.
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
    ) -> list[Tensor | None]:
        """Of the values of the wanted terms, and of the task loss last.

        A term depends on the parameters through its inputs, and perhaps directly.
        """
        with self._moment.revisited(), torch.enable_grad():
            *values, _ = term_values(pipeline, wanted, self._arguments, self._keywords)
        moving = [(leaf, tangent) for leaf, tangent in self._leaves.values() if tangent is not None]
        of = [*(leaf for leaf, _ in moving), *parameters]
        along = [*(tangent for _, tangent in moving), *direction]
        return [*(slope(value, of, along) for value in values), self._base]

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
