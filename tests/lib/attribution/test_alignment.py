"""Alignment with the update, held against one plain gradient per term."""

import copy
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

import penaltyscope as ps
from penaltyscope.attribution import UpdateAlignment
from tests.lib.attribution.models import (
    SETUPS,
    Setup,
    assert_agrees,
    by_autograd,
    convolutional,
    trained,
)

UNMEASURED = {"off", "count"}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("forward_mode", [True, False])
@pytest.mark.parametrize("setup", SETUPS)
def test_pulls_are_those_of_each_terms_own_gradient(
    setup: Callable[[], Setup], forward_mode: bool
) -> None:
    job = setup()
    optimizer = sgd(job.model)
    alignment = UpdateAlignment(job.pipeline, job.model, optimizer, every=1)
    alignment._forward_mode = forward_mode
    for _ in range(3):
        expected = by_autograd(job, trained(job.model))
        alignment.run(job.forward, *job.batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert_agrees(alignment.last, expected, skip=UNMEASURED)
        assert alignment._forward_mode == forward_mode


@pytest.mark.parametrize("setup", SETUPS)
def test_training_is_the_same_bit_by_bit_with_and_without(setup: Callable[[], Setup]) -> None:
    ends = []
    for every in (1, 1000):
        job = setup()
        optimizer = torch.optim.AdamW(job.model.parameters(), lr=0.01)
        alignment = UpdateAlignment(job.pipeline, job.model, optimizer, every=every)
        alignment._count = 1  # not at the first step, when it is rare
        torch.manual_seed(3)
        for _ in range(4):
            alignment.run(job.forward, *job.batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert (alignment.last is None) == (every == 1000)
        ends.append((job.model.state_dict(), torch.get_rng_state(), job.pipeline.step))
        assert [p.requires_grad for p in job.model.parameters()] == [
            p.requires_grad for p in setup().model.parameters()
        ]
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_accumulated_micro_batches_are_measured_together() -> None:
    job = convolutional()
    optimizer = sgd(job.model)
    alignment = UpdateAlignment(job.pipeline, job.model, optimizer, every=1)
    rows = []
    for i in range(3):
        images, labels = job.batch
        micro = Setup(job.model, job.pipeline, job.forward, (images + i, labels))
        expected = by_autograd(micro, trained(job.model))
        result = alignment.run(micro.forward, *micro.batch)
        (result.loss / 3).backward()
        rows.append(expected)
    direction = torch.cat([p.grad.flatten() for p in trained(job.model) if p.grad is not None])
    optimizer.step()
    found = alignment.last
    assert found is not None
    torch.testing.assert_close(found.direction_norm, direction.norm())
    # The mean loss falls as fast as its gradient is long, whatever the parts say.
    torch.testing.assert_close(found.pulls.sum() + found.base_pull, direction.norm())
    one = [alone.along * alone.total for alone in rows]
    assert not torch.allclose(found.slopes, one[0][:-1] / direction.norm())


def test_neither_loss_scaling_nor_clipping_changes_what_is_found() -> None:
    found = []
    for scale, clip in [(1.0, 1e9), (1024.0, 0.5)]:
        job = convolutional()
        optimizer = sgd(job.model)
        alignment = UpdateAlignment(job.pipeline, job.model, optimizer, every=1)
        torch.manual_seed(3)
        (alignment.run(job.forward, *job.batch).loss * scale).backward()
        nn.utils.clip_grad_norm_(job.model.parameters(), clip)
        optimizer.step()
        assert alignment.last is not None
        found.append((alignment.last.pulls, alignment.last.base_pull, alignment.last.shares))
    torch.testing.assert_close(found[0], found[1])


def test_autocasting_is_that_of_the_forward_pass() -> None:
    job = convolutional()
    job.model.float()
    images, labels = job.batch
    optimizer = sgd(job.model)
    alignment = UpdateAlignment(job.pipeline, job.model, optimizer, every=1)
    kinds = []
    layers: Any = job.model
    layers[5].register_forward_hook(lambda _, __, output: kinds.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = alignment.run(job.forward, images.float(), labels)
    result.loss.backward()
    optimizer.step()
    assert kinds == [torch.bfloat16] * 2
    found = alignment.last
    assert found is not None
    # In bfloat16 the two ways round differently, by about 2 ** -8 at each of the layers.
    whole = found.pulls.sum() + found.base_pull
    torch.testing.assert_close(whole, found.direction_norm, rtol=0.03, atol=0)
    assert alignment._forward_mode


def test_a_compiled_model_is_differentiated_too() -> None:
    job = convolutional()
    optimizer = sgd(job.model)
    body: Any = torch.compile(job.model[:7], backend="aot_eager")  # type: ignore[index]
    pipeline = ps.Pipeline([ps.Term("size", ps.l2), ps.Term("one", ps.l1)])

    def forward(images: Tensor, _: Tensor) -> ps.PipelineResult:
        result: ps.PipelineResult = pipeline(body(images))
        return result

    for module in job.model.modules():
        module.eval()  # no dropout, whose numbers a compiler may draw in another order
    alignment = UpdateAlignment(pipeline, job.model, optimizer, every=1)
    alignment.run(forward, *job.batch).loss.backward()
    optimizer.step()
    found = alignment.last
    assert found is not None
    torch.testing.assert_close(found.pulls.sum(), found.direction_norm)


class Halve(torch.autograd.Function):
    """Has a backward pass and no forward-mode derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return x / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return gradient / 2


def linear(
    *terms: ps.Term, layer: nn.Module | None = None
) -> tuple[nn.Module, ps.Pipeline, torch.optim.Optimizer]:
    torch.manual_seed(4)
    model = nn.Linear(3, 2).double() if layer is None else layer
    return model, ps.Pipeline(terms or [ps.Term("l2", ps.l2), ps.Term("l1", ps.l1)]), sgd(model)


def test_an_operation_without_forward_mode_is_differentiated_through_its_backward(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, pipeline, optimizer = linear()
    halve: Callable[[Tensor], Tensor] = Halve.apply

    def forward(x: Tensor) -> ps.PipelineResult:
        hidden = halve(model(x))
        result: ps.PipelineResult = pipeline(input=hidden, base=hidden.sin().sum())
        return result

    job = Setup(model, pipeline, forward, (torch.randn(4, 3, dtype=torch.float64),))
    alignment = UpdateAlignment(pipeline, model, optimizer, every=1)
    with caplog.at_level(logging.WARNING, "penaltyscope"):
        for _ in range(2):
            expected = by_autograd(job, trained(model))
            alignment.run(forward, *job.batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert_agrees(alignment.last, expected, skip=set())
    assert len(caplog.records) == 1, "told once"
    assert "each term gets a backward pass instead of a tangent" in caplog.text


def test_a_penalty_on_a_slope_and_sparse_gradients_are_measured() -> None:
    critic = nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Linear(3, 1)).double()

    def slope(x: Tensor) -> Tensor:
        return ps.gradient_penalty(lambda y: critic[1](y).tanh().sum(), x)

    model, pipeline, optimizer = linear(
        ps.Term("slope", slope),
        ps.Term("l2", ps.l2, weight=0.1),
        layer=critic,
    )

    def forward(bags: Tensor) -> ps.PipelineResult:
        hidden = critic[0](bags)
        result: ps.PipelineResult = pipeline(
            hidden, base=critic[1](hidden).square().sum() + slope(hidden)
        )
        return result

    job = Setup(model, pipeline, forward, (torch.tensor([[1, 2], [2, 6]]),))
    alignment = UpdateAlignment(pipeline, model, optimizer, every=1)
    alignment.run(forward, *job.batch).loss.backward()
    gradients = [p.grad.to_dense().flatten() for p in model.parameters() if p.grad is not None]
    total = torch.cat(gradients)
    optimizer.step()
    found = alignment.last
    assert found is not None
    torch.testing.assert_close(found.pulls.sum() + found.base_pull, total.norm())
    assert found.pulls.abs().min() > 1e-3


def test_a_value_that_is_not_finite_poisons_nothing_at_weight_0() -> None:
    model, pipeline, optimizer = linear(
        ps.Term("good", ps.l2), ps.Term("bad", lambda x: (x * 0).log().sum(), weight=0.0)
    )
    alignment = UpdateAlignment(pipeline, model, optimizer, every=1)
    alignment.run(lambda: pipeline(model(torch.ones(1, 3).double()))).loss.backward()
    optimizer.step()
    assert alignment.last is not None
    assert alignment.last.slopes.isnan().tolist() == [False, True]
    torch.testing.assert_close(alignment.last.shares, torch.tensor([1.0, 0.0]).double())
    assert alignment.last.base_share.isnan()


def test_it_measures_every_so_many_steps_of_the_optimizer() -> None:
    model, pipeline, optimizer = linear()
    alignment = UpdateAlignment(pipeline, model, optimizer, every=3)
    heard, calls = [], 0
    end = alignment.register_listener(lambda found: heard.append(found.step))

    def forward() -> ps.PipelineResult:
        nonlocal calls
        calls += 1
        result: ps.PipelineResult = pipeline(model(torch.ones(1, 3).double()))
        return result

    for _ in range(7):
        with torch.no_grad():
            alignment.run(forward)  # a look aside, which is no part of the step
        alignment.run(forward).loss.backward()
        optimizer.step()
    assert heard == [1, 7, 13]
    assert calls == 2 * 7 + 3
    end()
    alignment.close()
    for _ in range(3):
        alignment.run(forward).loss.backward()
        optimizer.step()
    assert (len(heard), calls) == (3, 20)


def failing(model: nn.Module, pipeline: ps.Pipeline) -> Iterator[Callable[[], object]]:
    x = torch.ones(1, 3).double()
    yield lambda: model(x).sum()  # never calls the pipeline

    def twice() -> ps.PipelineResult:
        pipeline(model(x))
        result: ps.PipelineResult = pipeline(model(x))
        return result

    yield twice
    left = [1]

    def once() -> ps.PipelineResult:
        left.pop()
        result: ps.PipelineResult = pipeline(model(x))
        return result

    yield once


@pytest.mark.parametrize(
    ("which", "message"), [(0, "exactly once, got 0"), (1, "exactly once, got 2"), (2, "pop from")]
)
def test_a_probe_that_fails_is_logged_and_closed_and_training_goes_on(
    caplog: pytest.LogCaptureFixture, which: int, message: str
) -> None:
    model, pipeline, optimizer = linear()
    forward = [*failing(model, pipeline)][which]
    alignment = UpdateAlignment(pipeline, model, optimizer, every=1)
    before = copy.deepcopy(model.state_dict())
    found: Any = alignment.run(forward)
    getattr(found, "loss", found).backward()
    optimizer.step()
    assert alignment.closed
    assert message in caplog.text
    assert not torch.equal(before["weight"], model.state_dict()["weight"])
    assert not pipeline._forward_pre_hooks


def test_a_data_parallel_model_is_left_as_it_was() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1
    )
    try:
        inner, pipeline, optimizer = linear()
        model = nn.parallel.DistributedDataParallel(inner)
        alignment = UpdateAlignment(pipeline, model, optimizer, every=1)
        for _ in range(3):
            result = alignment.run(lambda: pipeline(model(torch.ones(1, 3).double())))
            result.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert alignment.last is not None
            torch.testing.assert_close(alignment.last.pulls.sum(), alignment.last.direction_norm)
    finally:
        distributed.destroy_process_group()
