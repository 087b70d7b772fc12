"""Penalties over parameters, and their gradients by plain autograd."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from penaltyscope.penalties import group_lasso
from tests.lib.pipelines import cubes, squares


def sines(x: Tensor) -> Tensor:
    return x.sin().square().sum()


PENALTIES: dict[str, tuple[Callable[..., Tensor], Mapping[str, object]]] = {
    "l1": (ps.l1, {}),
    "l2": (ps.l2, {"scale": 0.5}),
    "elastic net": (ps.elastic_net, {"scale": -1.0, "l1_ratio": 0.3}),
    "l2 with clip": (ps.l2, {"clip": 0.2}),
    "the mean of l2": (ps.l2, {"reduction": "mean", "center": 0.1}),
    "l1 times nothing": (ps.l1, {"scale": 0.0}),
    "group lasso": (group_lasso, {}),
    "orthogonality": (ps.orthogonality, {}),
    "the user's": (sines, {}),
    "a part of the user's": (partial(ps.l2, clip=0.2), {}),
}
each_penalty = pytest.mark.parametrize(
    ("penalty", "options"), PENALTIES.values(), ids=PENALTIES.keys()
)


def weights(model: nn.Module) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if name.endswith("weight")]


def decay(
    penalty: Callable[..., Tensor],
    model: nn.Module,
    *,
    inputs: tuple[str, ...] = (),
    **settings: Any,  # noqa: ANN401
) -> ps.Term:
    return ps.Term("decay", ps.over_parameters(penalty, model), inputs=inputs, **settings)


def gradients(
    penalty: Callable[..., Tensor], parameters: Sequence[Tensor], options: Mapping[str, object]
) -> list[Tensor]:
    moving = [p for p in parameters if p.requires_grad]
    value = torch.stack([penalty(p, **options) for p in parameters]).sum()
    return [*torch.autograd.grad(value, moving)]


def length(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.cat([g.flatten() for g in gradients]).norm()
    return norm


def plain(
    penalty: Callable[..., Tensor], model: nn.Module, options: Mapping[str, object]
) -> Tensor:
    return torch.stack([penalty(p, **options) for p in weights(model)]).sum()


BESIDE = {
    "nothing": [],
    "closed forms": [ps.Term("l1", ps.l1), ps.Term("l2", ps.l2, weight=-0.1)],
    "the user's": [ps.Term("squares", squares), ps.Term("cubes", cubes)],
    "both": [ps.Term("squares", squares), ps.Term("l2", ps.l2)],
}
