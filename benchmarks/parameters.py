"""Penalties over the weights of a model, forward and backward: with norms, and without any."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import interleaved, ratio
from benchmarks.row import Row
from penaltyscope.penalties import group_lasso, selected_parameters


def sines(x: Tensor) -> Tensor:
    """One of a user's own."""
    return x.sin().square().sum()


_PENALTIES: dict[str, Callable[..., Tensor]] = {
    "L2": ps.l2,
    "L1": ps.l1,
    "elastic net": ps.elastic_net,
    "group lasso": group_lasso,
    "orthogonality": ps.orthogonality,
    "a user's own": sines,
}
_WEIGHT = 1e-4


def rows(effort: Effort) -> list[Row]:
    """Against the same penalty without a norm, for a few large weights and for many small ones."""
    torch.manual_seed(0)
    found = []
    for name, penalty in _PENALTIES.items():
        for sizes in effort.layers:
            model = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
            weights = [*selected_parameters(model).values()]
            term = ps.Term("own", ps.over_parameters(penalty, model), weight=_WEIGHT, inputs=())
            pipeline = ps.Pipeline([term])
            steps = {
                "own": partial(_step, model, partial(_own, pipeline)),
                "plain": partial(_step, model, partial(_plain, penalty, weights)),
            }
            times = interleaved(steps, 2 * effort.large_rounds)
            measured = ratio(times, "own", "plain")
            where = f"{len(weights)} weights, {sum(x.numel() for x in weights) / 1e6:.1f} M"
            found.append(Row(f"{name} over parameters with its norm / without, {where}", measured))
    return found


def _step(model: nn.Module, total: Callable[[], Tensor]) -> None:
    model.zero_grad()
    total().backward()


def _own(pipeline: ps.Pipeline) -> Tensor:
    result: ps.PipelineResult = pipeline()
    return result.total


def _plain(penalty: Callable[..., Tensor], weights: Sequence[Tensor]) -> Tensor:
    return torch.stack([penalty(x) for x in weights]).sum() * _WEIGHT
