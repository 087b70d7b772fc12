"""Gradients at the last layer and at all parameters, held against plain autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from penaltyscope.attribution import AllParameters, LastLayer, Probe, _last_layer
from tests.lib.attribution.models import (
    SETUPS,
    Expected,
    Setup,
    assert_agrees,
    by_autograd,
    convolutional,
    language_model,
    trained,
)

UNMEASURED = {"off", "count"}


def assert_norms_agree(probe: Probe, expected: Expected) -> None:
    found = probe.last
    assert found is not None
    norms = expected.gram.diagonal().sqrt()
    measured = ~found.norms.isnan()
    torch.testing.assert_close(found.norms[measured], norms[:-1][measured], rtol=1e-10, atol=1e-10)
    cosines = expected.weights.sign() * expected.along / norms
    seen = measured & (norms[:-1] > 0)
    torch.testing.assert_close(found.cosines[seen], cosines[:-1][seen], rtol=1e-10, atol=1e-10)
    signs = expected.weights.sign()
    conflict = expected.gram / norms[:, None] / norms * signs[:, None] * signs
    assert found.conflict is not None
    both = seen[:, None] & seen
    torch.testing.assert_close(found.conflict[both], conflict[:-1, :-1][both], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("setup", SETUPS)
def test_all_parameters_are_those_of_each_terms_own_gradient(setup: Callable[[], Setup]) -> None:
    job = setup()
    probe = AllParameters(job.pipeline, job.model, every=1)
    for _ in range(2):
        expected = by_autograd(job, trained(job.model))
        job.forward(*job.batch).loss.backward()
        assert_agrees(probe.last, expected, skip=UNMEASURED)
        assert_norms_agree(probe, expected)
    found = probe.last
    assert found is not None
    groups = torch.stack([*found.norms_by_module.values()])
    torch.testing.assert_close(groups.square().sum(0).sqrt(), found.norms, equal_nan=True)


def test_parameters_are_grouped_by_module_or_as_asked() -> None:
    job = language_model()
    probes = [
        AllParameters(job.pipeline, job.model, every=1),
        AllParameters(job.pipeline, job.model, every=1, group=lambda name: name[-4:]),
    ]
    job.forward(*job.batch).loss.backward()
    # The tied weight counts once, under its first name.
    names = [set(probe.last.norms_by_module) for probe in probes if probe.last is not None]
    assert names == [{"embedding", "block"}, {"ight", "bias"}]


@pytest.mark.parametrize("elements", [1 << 22, 1])
def test_the_last_layer_is_that_of_each_terms_own_gradient(
    monkeypatch: pytest.MonkeyPatch, elements: int
) -> None:
    monkeypatch.setattr(_last_layer, "_ELEMENTS", elements)
    job = convolutional()
    job.pipeline.remove("decay")  # it does not go through the layer's outputs
    layer: Any = job.model[5]  # type: ignore[index]
    probe = LastLayer(job.pipeline, layer, every=1)
    expected = by_autograd(job, [layer.weight, layer.bias])
    job.forward(*job.batch).loss.backward()
    assert_agrees(probe.last, expected, skip=set())
    assert_norms_agree(probe, expected)


def test_a_tied_last_layer_counts_with_its_own_use_of_the_weight() -> None:
    job = language_model()
    model: Any = job.model
    probe = LastLayer(job.pipeline, model.head, every=1)
    # A weight of its own with the same numbers has just this gradient.
    state = torch.get_rng_state()
    job.forward(*job.batch).loss.backward()
    model.head.weight = nn.Parameter(model.embedding.weight.detach().clone())
    torch.set_rng_state(state)
    job.pipeline.step = 0
    expected = by_autograd(job, [model.head.weight])
    assert_agrees(probe.last, expected, skip=UNMEASURED)
    assert_norms_agree(probe, expected)


def test_a_layer_that_is_used_twice_and_overwritten_is_measured_whole() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3).double()
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2), ps.Term("l1", ps.l1, weight=-0.5)])
    probe = LastLayer(pipeline, layer, every=1)

    def forward(x: Tensor) -> ps.PipelineResult:
        hidden = layer(layer(input=x).tanh())
        hidden.mul_(3)
        result: ps.PipelineResult = pipeline(input=hidden, base=hidden.exp().sum())
        return result

    job = Setup(layer, pipeline, forward, (torch.randn(3, dtype=torch.float64),))
    expected = by_autograd(job, [*layer.parameters()])
    forward(*job.batch).loss.backward()
    assert_agrees(probe.last, expected, skip=set())


@pytest.mark.parametrize("kind", ["layer", "all"])
def test_training_is_the_same_bit_by_bit_with_and_without(kind: str) -> None:
    ends = []
    for every in (1, 1000):
        job = convolutional()
        layer: Any = job.model[7]  # type: ignore[index]
        probe: Probe = (
            LastLayer(job.pipeline, layer, every=every)
            if kind == "layer"
            else AllParameters(job.pipeline, job.model, every=every)
        )
        probe._count = 1
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=0.01)
        torch.manual_seed(3)
        for _ in range(4):
            job.forward(*job.batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert (probe.last is None) == (every == 1000)
        ends.append((job.model.state_dict(), torch.get_rng_state(), job.pipeline.step))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_they_measure_every_so_many_evaluations_in_training() -> None:
    job = convolutional()
    layer: Any = job.model[7]  # type: ignore[index]
    probes = (
        LastLayer(job.pipeline, layer, every=3),
        AllParameters(job.pipeline, job.model, every=2),
    )
    steps: list[list[int]] = [[], []]
    for probe, own in zip(probes, steps, strict=True):
        probe.register_listener(lambda found, own=own: own.append(found.step))  # type: ignore[misc]
    for _ in range(6):
        job.forward(*job.batch)
        with torch.no_grad():
            job.forward(*job.batch)
        job.pipeline.eval()
        job.forward(*job.batch)
        job.pipeline.train()
    assert steps == [[0, 6], [0, 4, 8]]
    for probe in probes:
        probe.close()
    job.forward(*job.batch)
    assert steps == [[0, 6], [0, 4, 8]]


def test_a_layer_that_does_not_lead_to_the_pipeline_closes_the_probe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = convolutional()
    probe = LastLayer(job.pipeline, nn.Linear(2, 2), every=1)
    job.forward(*job.batch).loss.backward()
    assert probe.closed
    assert "layer must run before the pipeline" in caplog.text


def test_a_listener_that_raises_closes_the_probe(caplog: pytest.LogCaptureFixture) -> None:
    job = convolutional()
    probe = AllParameters(job.pipeline, job.model, every=1)
    probe.register_listener(lambda _: [].pop())
    job.forward(*job.batch).loss.backward()
    assert probe.closed
    assert "pop from empty list" in caplog.text


def test_what_makes_no_sense_is_refused() -> None:
    job = convolutional()
    with pytest.raises(TypeError, match="pipeline must be a Pipeline, got Sequential"):
        AllParameters(job.model, job.model)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        AllParameters(job.pipeline, job.model, every=0)
    with pytest.raises(ValueError, match="model must have a parameter that is trained"):
        AllParameters(job.pipeline, nn.ReLU())
    with pytest.raises(TypeError, match=r"layer must be an nn\.Linear, got ReLU"):
        LastLayer(job.pipeline, nn.ReLU())  # type: ignore[arg-type]


def test_a_record_becomes_plain_numbers() -> None:
    pipeline = ps.Pipeline([ps.Term("a", lambda x: (2 * x).sum(), weight=0.5)])
    x = nn.Parameter(torch.tensor([3.0]))
    probe = AllParameters(pipeline, nn.ParameterList([x]), every=1)
    pipeline(x, base=3 * x.sum(), step=7).loss.backward()
    assert probe.last is not None
    assert probe.last.to_dict() == {
        "method": "all_parameters",
        "step": 7,
        "base_pull": 3.0,
        "base_share": 0.75,
        "direction_norm": 4.0,
        "terms": {
            "a": {
                "weight": 0.5,
                "slope": 2.0,
                "pull": 1.0,
                "share": 0.25,
                "norm": 2.0,
                "cosine": 1.0,
            }
        },
    }
