"""Terms over parameters where models are trained, moved, copied, compiled and watched."""

import copy
import pickle
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from benchmarks.operations import Operations
from penaltyscope.penalties import group_lasso
from penaltyscope.telemetry._columns import steps_of
from penaltyscope.telemetry._rows import cells_of, gather, stretch
from penaltyscope_events import TermFlag
from tests.lib.decays import BESIDE, decay, each_penalty, gradients, length, plain, sines, weights


@each_penalty
def test_a_gradient_reaches_a_parameter_once(
    penalty: Callable[..., Tensor], options: Mapping[str, object], model: nn.Module, x: Tensor
) -> None:
    heard: list[Tensor] = []
    own = weights(model)[0]
    # As DistributedDataParallel and FSDP listen.
    own.register_post_accumulate_grad_hook(lambda p: heard.append(p.grad.clone()))
    y = model[0](x)  # type: ignore[index]
    pipeline = ps.Pipeline([decay(penalty, model, options=options), ps.Term("l2", ps.l2)])
    pipeline(y, base=y.sum()).loss.backward()
    y = model[0](x)  # type: ignore[index]
    (whole,) = torch.autograd.grad(plain(penalty, model, options) + ps.l2(y) + y.sum(), own)
    torch.testing.assert_close(heard, [whole])


def test_hooks_of_parameters_hear_of_nothing_else(model: nn.Module, x: Tensor) -> None:
    heard: list[Tensor] = []
    weights(model)[0].register_hook(heard.append)
    for penalty, measured in ((ps.l2, True), (group_lasso, True), (sines, False)):
        heard.clear()
        result = ps.Pipeline([decay(penalty, model)])(x)
        assert result.gradient_norms.isfinite().all() == measured
        assert not heard
        result.loss.backward()
        assert len(heard) == 1


def test_a_penalty_that_draws_is_measured_as_it_was_drawn(model: nn.Module, x: Tensor) -> None:
    def dropped(w: Tensor) -> Tensor:
        return nn.functional.dropout(w, 0.5).square().sum()

    result = ps.Pipeline([decay(dropped, model)])(x)
    result.loss.backward()
    flown = [p.grad for p in weights(model) if p.grad is not None]
    torch.testing.assert_close(result.gradient_norms, length(flown)[None])


def test_a_penalty_may_know_its_parameters_again_and_hold_others(
    model: nn.Module, x: Tensor
) -> None:
    anchors = {p: torch.zeros_like(p) for p in weights(model)}
    strength = torch.ones((), dtype=torch.float64, requires_grad=True)

    def anchored(w: Tensor) -> Tensor:
        assert isinstance(w, nn.Parameter)
        return strength * (w - anchors[w]).square().sum()

    result = ps.Pipeline([decay(anchored, model)])(x)
    result.loss.backward()
    torch.testing.assert_close(strength.grad, result.values[0])
    torch.testing.assert_close(result.gradient_norms, length([2 * p for p in anchors])[None])


def test_a_penalty_without_gradient_has_a_norm_of_zero(model: nn.Module, x: Tensor) -> None:
    def count(w: Tensor) -> Tensor:
        return (w > 0).sum(dtype=w.dtype)

    result = ps.Pipeline([decay(count, model), ps.Term("l2", ps.l2)])(x.requires_grad_())
    result.loss.backward()
    assert result.gradient_norms[0] == 0


def test_parameters_of_a_class_of_their_own_are_left_alone(x: Tensor) -> None:
    class Shard(nn.Parameter):
        pass

    layer = nn.Linear(2, 2)
    layer.weight = Shard(torch.ones(2, 2))
    result = ps.Pipeline([decay(ps.l2, layer)])(x)
    result.loss.backward()
    assert result.gradient_norms.isnan().all()
    torch.testing.assert_close(layer.weight.grad, 2 * torch.ones(2, 2))


@pytest.mark.parametrize("penalty", [ps.l2, ps.elastic_net, group_lasso, ps.orthogonality, sines])
def test_what_is_not_finite_is_found(
    penalty: Callable[..., Tensor], model: nn.Module, x: Tensor
) -> None:
    with torch.no_grad():
        weights(model)[1][0, 0] = torch.nan
    result = ps.Pipeline([decay(penalty, model)])(x)
    assert result.values.isnan().all()
    assert result.gradient_norms.isnan().all()
    assert result.statistics.alarming


@each_penalty
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_model_may_change_its_dtype_later(
    penalty: Callable[..., Tensor], options: Mapping[str, object], dtype: torch.dtype, x: Tensor
) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    pipeline = ps.Pipeline([decay(penalty, model, weight=2.0, options=options)])
    pipeline(x)
    model.to(dtype)
    result = pipeline(x)
    (2.0**10 * result.loss).backward()
    slopes = gradients(
        penalty, [p.detach().float().requires_grad_() for p in weights(model)], options
    )
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        result.gradient_norms.float(), length(slopes)[None], rtol=tolerance, atol=0
    )
    torch.testing.assert_close(
        [p.grad for p in weights(model)],
        [(2.0**11 * g).to(dtype) for g in slopes],
        rtol=2 * tolerance,
        atol=2**11 * tolerance,
    )


def test_parameters_may_be_empty_or_numbers(x: Tensor) -> None:
    layer = nn.Module()
    layer.empty = nn.Parameter(torch.zeros(0, 3, dtype=torch.float64))
    layer.number = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))
    for penalty, norm in ((ps.l1, 1.0), (ps.l2, 6.0), (ps.elastic_net, 3.5), (group_lasso, 1.0)):
        layer.zero_grad()
        result = ps.Pipeline([decay(penalty, layer)])(x)
        result.loss.backward()
        assert result.gradient_norms.item() == pytest.approx(norm)
        number, nothing = layer.number.grad, layer.empty.grad
        assert number is not None
        assert nothing is not None
        assert number.item() == pytest.approx(-norm)
        assert nothing.shape == (0, 3)


def test_a_copy_measures_its_own_parameters(model: nn.Module, x: Tensor) -> None:
    class Job(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.pipeline = ps.Pipeline([decay(ps.l2, model)])

    job = Job()
    slopes = job.pipeline(x).gradient_norms
    other = copy.deepcopy(job)
    with torch.no_grad():
        for p in other.model.parameters():
            p.mul_(2)
    torch.testing.assert_close(other.pipeline(x).gradient_norms, 2 * slopes)
    torch.testing.assert_close(job.pipeline(x).gradient_norms, slopes)
    again = pickle.loads(pickle.dumps(job.pipeline))
    torch.testing.assert_close(again(x).gradient_norms, slopes)


@each_penalty
def test_a_step_that_is_itself_compiled_has_the_gradient_without_the_norm(
    penalty: Callable[..., Tensor],
    options: Mapping[str, object],
    model: nn.Module,
    x: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    result = ps.Pipeline([decay(penalty, model, options=options)])(x)
    result.loss.backward()
    slopes = gradients(penalty, weights(model), options)
    torch.testing.assert_close([p.grad for p in weights(model)], slopes)
    assert result.gradient_norms.isnan().all()


def test_transforms_of_functions_see_the_plain_penalty(model: nn.Module) -> None:
    pipeline = ps.Pipeline([decay(ps.l2, model)])
    found = torch.func.grad(lambda x: x * pipeline().total)(torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(found, plain(ps.l2, model, {}).detach())


@pytest.mark.parametrize(
    ("penalty", "most"), [(ps.l2, 0), (ps.elastic_net, 3), (group_lasso, 24), (sines, 16)]
)
def test_each_further_parameter_costs_a_few_operations(
    penalty: Callable[..., Tensor], most: int, x: Tensor
) -> None:
    def computed(layers: int) -> int:
        model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))
        pipeline = ps.Pipeline([decay(penalty, model)])
        pipeline(x)
        with Operations() as counting:
            pipeline(x).loss.backward()
        count: int = counting.compute
        return count

    assert computed(12) - computed(2) <= 10 * most


@each_penalty
def test_on_a_device_no_number_is_read(
    penalty: Callable[..., Tensor],
    options: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The numbers of this device cannot be read: whoever tries gets an error.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # it does not know "meta"
    model = nn.Linear(5, 3, device="meta")
    pipeline = ps.Pipeline([decay(penalty, model, options=options), ps.Term("l2", ps.l2)])
    x = torch.empty(3, 4, device="meta", requires_grad=True)
    with Operations() as counting:
        result = pipeline(x, base=x.mean())
        result.loss.backward()
    assert counting.waits == 0
    assert model.weight.grad is not None
    assert result.statistics.layout.known == ((1, 0), (0, 1))
    assert result.gradient_norms.is_meta


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_telemetry_has_the_norm_and_what_is_wrong_with_it(
    beside: Sequence[ps.Term], model: nn.Module, x: Tensor
) -> None:
    x.requires_grad_()
    pipeline = ps.Pipeline([*beside, decay(ps.l2, model, weight=0.5)])
    rows, norms = [], []
    for seq in range(3):
        with torch.no_grad():
            weights(model)[0][0, 0] = torch.nan if seq == 2 else seq
        result = pipeline(x, base=x.sum())
        result.loss.backward()
        norms.append(result.gradient_norms)
        rows.append((pipeline, seq, result.statistics, None, None))
    together = stretch(rows)
    block = steps_of(together, cells_of(together, gather(together).numpy()), "i").block
    torch.testing.assert_close(
        torch.from_numpy(block.gradient_norm), torch.stack(norms), equal_nan=True
    )
    assert not block.flags[:2].any()
    assert not block.flags[2, :-1].any()
    assert block.flags[2, -1] == TermFlag.VALUE_NAN | TermFlag.GRADIENT_NAN
    assert np.isnan(block.total_gradient_norm).tolist() == [not beside] * 3
