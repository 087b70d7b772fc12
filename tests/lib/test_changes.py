"""One pipeline through many steps with something else in each, held against the plain sum."""

import random
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope.term import Weight
from tests.lib.pipelines import squares

SHAPES = (), (0, 3), (1, 7), (5, 4), (2, 3, 4), (300, 301)
WEIGHTS: tuple[Weight, ...] = 1.0, 0.0, -0.5, 1e-3, lambda step: float(step % 3)


def terms(chance: random.Random) -> list[ps.Term]:
    """Some with a closed form, some whose closed form nobody can see, and one of the user's own."""
    known: list[tuple[str, Any, tuple[str, ...], dict[str, object]]] = [
        ("l1", ps.l1, ("a",), {}),
        ("l2", ps.l2, ("a",), {"clip": 1.5}),
        ("size", ps.output_magnitude_penalty, ("b",), {}),
        ("net", ps.elastic_net, ("b",), {"reduction": "mean"}),
        ("same", ps.consistency, ("a", "b"), {"metric": "l1"}),
        ("squares", squares, ("b",), {}),
    ]
    return [
        ps.Term(
            name,
            partial(penalty) if chance.random() < 0.4 else penalty,
            inputs=inputs,
            options=options,
            weight=chance.choice(WEIGHTS),
        )
        for name, penalty, inputs, options in known
    ]


def laid_out(x: Tensor, chance: random.Random) -> Tensor:
    """The same numbers, or some of them, in other places of memory."""
    if x.dim() > 1 and chance.random() < 0.3:
        return x.mT.contiguous().mT
    if x.dim() and len(x) and chance.random() < 0.2:
        return x[:1].expand_as(x)
    return x


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("conflict", [False, True])
def test_every_step_is_the_plain_sum_whatever_has_changed(seed: int, conflict: bool) -> None:
    chance, own = random.Random(seed), torch.Generator().manual_seed(seed)
    pipeline = ps.Pipeline(terms(chance), conflict=conflict)
    weights = {term.name: term.weight for term in pipeline.terms}
    enabled = dict.fromkeys(weights, True)
    for step in range(12):
        name = chance.choice([*weights])
        weights[name], enabled[name] = chance.choice(WEIGHTS), chance.random() < 0.7
        pipeline.set_weight(name, weights[name])
        pipeline.set_enabled(name, enabled[name])
        shape = chance.choice(SHAPES)
        a, b = (
            laid_out(torch.randn(shape, generator=own, dtype=torch.float64), chance)
            for _ in range(2)
        )
        a, b = a.requires_grad_(chance.random() < 0.8), b.requires_grad_()
        b = a if chance.random() < 0.1 else b

        result = pipeline(a=a, b=b)
        total = torch.zeros((), dtype=torch.float64)
        for term, value in zip(pipeline.terms, result.values, strict=True):
            chosen = weights[term.name]
            weight = chosen(step) if callable(chosen) else chosen
            if enabled[term.name]:
                plain = term.penalty(*({"a": a, "b": b}[n] for n in term.inputs), **term.options)
                torch.testing.assert_close(value, plain.detach())
                total = total + weight * plain if weight else total
        torch.testing.assert_close(result.total, total)
        assert result.total.requires_grad == total.requires_grad
        if not total.requires_grad:
            continue
        tensors = [x for x in {id(a): a, id(b): b}.values() if x.requires_grad]
        found = torch.autograd.grad(2 * result.loss, tensors, materialize_grads=True)
        wanted = torch.autograd.grad(total, tensors, materialize_grads=True)
        torch.testing.assert_close(found, tuple(2 * x for x in wanted))
        whole = torch.stack([x.norm() for x in wanted]).norm()
        torch.testing.assert_close(result.total_gradient_norm, whole)
