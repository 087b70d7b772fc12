"""Terms that are any callable: which of them go into a graph, and what becomes of the others."""

import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from penaltyscope import _engine
from penaltyscope._compiled import Compiler
from penaltyscope._compiled._reach import reachable
from tests.lib.pipelines import squares

LAYER = nn.Linear(7, 1, dtype=torch.float64)


@pytest.fixture(autouse=True)
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs graphs without a compiler."""
    monkeypatch.setattr(_engine, "Compiler", lambda: Compiler("eager"))


class Critic:
    """Holds a layer, and offers it in two ways."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.score(x)

    def score(self, x: Tensor) -> Tensor:
        value: Tensor = self.layer(x).square().mean()
        return value


class Module(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.layer(x).square().mean()
        return value


def scored(layer: nn.Module, x: Tensor) -> Tensor:
    value: Tensor = layer(x).square().mean()
    return value


def by_global(x: Tensor) -> Tensor:
    return scored(LAYER, x)


LEARNING: dict[str, Callable[..., Tensor]] = {
    "closure": lambda x, layer=LAYER: scored(layer, x),
    "partial": partial(scored, LAYER),
    "bound method": Critic(LAYER).score,
    "callable": Critic(LAYER),
    "module": Module(LAYER),
    "global": by_global,
}


@pytest.mark.parametrize("penalty", LEARNING.values(), ids=LEARNING.keys())
def test_gradients_reach_what_a_term_learns(penalty: Callable[..., Tensor], x: Tensor) -> None:
    assert any(p is LAYER.weight for p in reachable(penalty))
    x.requires_grad_()
    terms = [ps.Term("critic", penalty, weight=0.1), ps.Term("l2", ps.l2)]
    LAYER.zero_grad()
    result = ps.Pipeline(terms, compile=True)(x)
    result.loss.backward()
    wanted = [LAYER.weight, x]
    plain = torch.autograd.grad(0.1 * scored(LAYER, x) + x.square().sum(), wanted)
    torch.testing.assert_close((LAYER.weight.grad, x.grad), plain)
    assert result.gradient_norms.isfinite().all()
    torch.testing.assert_close(result.total_gradient_norm, plain[1].norm())


def test_what_begins_to_learn_leaves_the_graph(x: Tensor) -> None:
    layer = nn.Linear(7, 1, dtype=torch.float64).requires_grad_(requires_grad=False)
    pipeline = ps.Pipeline([ps.Term("critic", partial(scored, layer))], compile=True)
    x.requires_grad_()
    assert pipeline(x).statistics.tap is None  # norms are there at once: it is in the graph
    layer.requires_grad_()
    pipeline(x).loss.backward()
    assert layer.weight.grad is not None


def test_terms_over_parameters_are_measured_beside_the_graph(x: Tensor) -> None:
    layer = nn.Linear(7, 1, dtype=torch.float64)
    decay = ps.Term("decay", ps.over_parameters(ps.l2, layer), weight=0.5)
    pipeline = ps.Pipeline([decay, ps.Term("l1", ps.l1)], compile=True)
    x.requires_grad_()
    for _ in range(3):
        layer.zero_grad()
        result = pipeline(x)
        expected = torch.stack([2 * layer.weight.norm(), x.new_tensor(35**0.5)])
        torch.testing.assert_close(result.gradient_norms, expected.detach())
        result.loss.backward()
        torch.testing.assert_close(layer.weight.grad, layer.weight.detach())
    layer.requires_grad_(requires_grad=False)
    assert pipeline(x).gradient_norms.isnan().tolist() == [True, False]


def test_a_term_that_cannot_be_traced_is_evaluated_beside_the_graph(
    x: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    def read(x: Tensor) -> Tensor:
        return x.square().sum() if x.sum().item() < 1e9 else x.sum()

    x.requires_grad_()
    pipeline = ps.Pipeline([ps.Term("read", read), ps.Term("l1", ps.l1)], compile=True)
    with caplog.at_level(logging.WARNING, "penaltyscope"):
        for _ in range(3):
            x.grad = None
            result = pipeline(x)
            result.loss.backward()
    assert [r.message.startswith("compile=True: <function") for r in caplog.records] == [True]
    torch.testing.assert_close(x.grad, 2 * x.detach() + x.detach().sign())
    torch.testing.assert_close(result.gradient_norms[0], 2 * x.detach().norm())


def test_a_pipeline_is_the_same_with_and_without(x: Tensor) -> None:
    x.requires_grad_()
    terms = [
        ps.Term("squares", squares, weight=0.5),
        ps.Term("l1", ps.l1, weight=-1.0),
        ps.Term("off", ps.l2, enabled=False),
        ps.Term("zero", ps.l2, weight=0.0),
        ps.Term("count", lambda x: (x > 0).double().sum(), differentiable=False),
    ]
    with_graph = ps.Pipeline(terms, compile=True, conflict=True)
    without = ps.Pipeline(terms, conflict=True)
    answers = []
    for pipeline in (with_graph, without):
        x.grad = None
        result = pipeline(x, base=x.sum())
        (result.loss * 3).backward()
        answers.append(result)
        answers.append(x.grad)
    ours, gradient, theirs, plain = answers
    torch.testing.assert_close(gradient, plain)
    for name in ("values", "contributions", "gradient_norms", "total_gradient_norm", "total"):
        torch.testing.assert_close(
            getattr(ours, name), getattr(theirs, name), equal_nan=True, check_dtype=False
        )
    torch.testing.assert_close(
        ours.gradient_conflict[:2, :2], theirs.gradient_conflict[:2, :2], check_dtype=False
    )
