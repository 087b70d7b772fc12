"""Terms over parameters and their gradient norms, held against plain autograd."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from penaltyscope.penalties import group_lasso
from tests.lib.decays import BESIDE, decay, each_penalty, gradients, length, plain, sines, weights
from tests.lib.pipelines import cubes, squares


@each_penalty
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("inputs", [(), ("input",)], ids=["no inputs", "ignored inputs"])
def test_the_norm_is_that_of_the_gradient_by_all_parameters(
    penalty: Callable[..., Tensor],
    options: Mapping[str, object],
    beside: Sequence[ps.Term],
    inputs: tuple[str, ...],
    model: nn.Module,
    x: Tensor,
) -> None:
    x.requires_grad_()
    term = decay(penalty, model, weight=-0.3, options=options, inputs=inputs)
    result = ps.Pipeline([*beside, term])(x)
    slopes = gradients(penalty, weights(model), options)
    # It is there before the backward pass.
    torch.testing.assert_close(result.gradient_norms[-1], length(slopes))
    (4 * result.loss).backward()
    torch.testing.assert_close(result.gradient_norms[-1], length(slopes))
    if beside:
        alone = ps.Pipeline(beside)(x)
        alone.loss.backward()
        torch.testing.assert_close(result.gradient_norms[:-1], alone.gradient_norms)
        torch.testing.assert_close(result.total_gradient_norm, alone.total_gradient_norm)
        by_input = result.gradient_norms_by_input["input"]
        torch.testing.assert_close(by_input[:-1], alone.gradient_norms)
        assert by_input[-1] == 0
    else:
        assert result.total_gradient_norm.isnan()
    torch.testing.assert_close([p.grad for p in weights(model)], [-1.2 * g for g in slopes])
    torch.testing.assert_close(result.values[-1], plain(penalty, model, options).detach())


@each_penalty
def test_compiled_terms_stand_beside_it(
    penalty: Callable[..., Tensor], options: Mapping[str, object], model: nn.Module, x: Tensor
) -> None:
    term = decay(penalty, model, options=options)
    pipeline = ps.Pipeline([term], compile=True)
    result = pipeline(x)
    result.loss.backward()
    slopes = gradients(penalty, weights(model), options)
    torch.testing.assert_close(result.gradient_norms, length(slopes)[None])
    torch.testing.assert_close([p.grad for p in weights(model)], slopes)


@each_penalty
def test_second_derivatives_are_those_of_the_penalty(
    penalty: Callable[..., Tensor], options: Mapping[str, object], model: nn.Module, x: Tensor
) -> None:
    own = weights(model)

    def second(value: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(value.square(), own, create_graph=True)
        return torch.autograd.grad(torch.stack([g.pow(3).sum() for g in first]).sum(), own)

    result = ps.Pipeline([decay(penalty, model, options=options)])(x)
    torch.testing.assert_close(second(result.loss), second(plain(penalty, model, options)))


@each_penalty
@pytest.mark.parametrize("how", ["some are frozen", "all are frozen", "no_grad"])
def test_the_norm_is_by_the_parameters_that_require_grad(
    penalty: Callable[..., Tensor],
    options: Mapping[str, object],
    how: str,
    model: nn.Module,
    x: Tensor,
) -> None:
    pipeline = ps.Pipeline([decay(penalty, model, options=options)])
    whole = pipeline(x)
    frozen = model[1:] if how == "some are frozen" else model  # type: ignore[index]
    frozen.requires_grad_(requires_grad=False)
    if how == "no_grad":
        frozen.requires_grad_()
        with torch.no_grad():
            result = pipeline(x)
    else:
        result = pipeline(x)
    torch.testing.assert_close(result.values, whole.values)
    if how == "some are frozen":
        (slopes,) = gradients(penalty, weights(model), options)
        result.loss.backward()
        torch.testing.assert_close(result.gradient_norms, slopes.norm()[None])
        torch.testing.assert_close([p.grad for p in weights(model)], [slopes, None, None])
    else:
        assert not result.loss.requires_grad
        assert result.gradient_norms.isnan().all()
    model.requires_grad_()
    torch.testing.assert_close(pipeline(x).gradient_norms, whole.gradient_norms)


@each_penalty
def test_parameters_may_be_anywhere_at_once(
    penalty: Callable[..., Tensor], options: Mapping[str, object], model: nn.Module
) -> None:
    inner = weights(model)[0]
    terms = [
        decay(penalty, model, options=options, weight=2.0),
        ps.Term("lasso", ps.over_parameters(ps.l1, model), inputs=(), weight=-0.5),
        ps.Term("cubes", cubes, inputs=("inner",)),
        ps.Term("l2", ps.l2, inputs=("inner",)),
    ]
    result = ps.Pipeline(terms)(inner=inner)
    result.loss.backward()
    one = gradients(penalty, weights(model), options)
    two = gradients(ps.l1, weights(model), {})
    expected = [2 * a - 0.5 * b for a, b in zip(one, two, strict=True)]
    expected[0] += 3 * inner.detach().square() + 2 * inner.detach()
    torch.testing.assert_close([p.grad for p in weights(model)], expected)
    torch.testing.assert_close(result.gradient_norms[:2], torch.stack([length(one), length(two)]))
    by_input = 3 * inner.detach().square() + 2 * inner.detach()
    torch.testing.assert_close(result.total_gradient_norm, by_input.norm())


@pytest.mark.parametrize("weight", [0.0, torch.zeros((), dtype=torch.float64)])
def test_a_weight_of_zero_has_no_norm(weight: float | Tensor, model: nn.Module, x: Tensor) -> None:
    terms = [decay(ps.l2, model, weight=weight), ps.Term("l2", ps.l2)]
    result = ps.Pipeline(terms)(x.requires_grad_())
    result.loss.backward()
    torch.testing.assert_close(result.total, ps.l2(x))
    torch.testing.assert_close(result.values[0], plain(ps.l2, model, {}).detach())
    assert result.gradient_norms.isnan().tolist() == [True, False]
    assert result.gradient_shares.tolist() == [0, 1]


def test_a_weight_may_learn(model: nn.Module, x: Tensor) -> None:
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    result = ps.Pipeline([decay(ps.l2, model, weight=weight)])(x)
    result.loss.backward()
    slopes = gradients(ps.l2, weights(model), {})
    torch.testing.assert_close(weight.grad, result.values[0])
    torch.testing.assert_close([p.grad for p in weights(model)], [0.5 * g for g in slopes])
    torch.testing.assert_close(result.gradient_norms, length(slopes)[None])


@pytest.mark.parametrize("setting", [{"enabled": False}, {"differentiable": False}])
def test_terms_that_are_off_or_not_differentiable_have_no_norm(
    setting: dict[str, Any], model: nn.Module, x: Tensor
) -> None:
    result = ps.Pipeline([decay(ps.l2, model, **setting)])(x)
    assert result.gradient_norms.isnan().all()
    assert result.loss.requires_grad == ("differentiable" in setting)


def test_options_of_one_call_count_and_wrong_ones_raise(model: nn.Module, x: Tensor) -> None:
    pipeline = ps.Pipeline([decay(ps.l2, model)])
    slopes = pipeline(x).gradient_norms
    options: dict[str, Any] = {"decay": {"scale": 3.0}}
    torch.testing.assert_close(pipeline(x, options=options).gradient_norms, 3 * slopes)
    with pytest.raises(TypeError, match="scale must be a number, got str"):
        pipeline(x, options={"decay": {"scale": "large"}})
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        pipeline(x, options={"decay": {"size": 1}})
    with pytest.raises(ValueError, match=r"dim must be a dimension of the shape \(5, 7\), got 2\."):
        ps.Pipeline([decay(group_lasso, model, options={"dim": 2})])(x)
    torch.testing.assert_close(pipeline(x).gradient_norms, slopes)


def test_conflicts_of_the_others_are_measured_beside_it(model: nn.Module, x: Tensor) -> None:
    for others in (BESIDE["closed forms"], BESIDE["the user's"]):
        leaf = x.detach().requires_grad_()
        alone = ps.Pipeline(others, conflict=True)(leaf)
        alone.loss.backward()
        result = ps.Pipeline([*others, decay(ps.l2, model)], conflict=True)(leaf)
        result.loss.backward()
        torch.testing.assert_close(result.gradient_conflict[:-1, :-1], alone.gradient_conflict)
        assert result.gradient_conflict[-1].isnan().all()
        assert result.gradient_norms.isfinite().all()


def test_norms_outside_of_training_are_the_same(model: nn.Module, x: Tensor) -> None:
    terms = [
        decay(ps.l2, model, weight=0.0, options={"scale": 2.0}),
        ps.Term("own", ps.over_parameters(sines, model), weight=-2.0),
        ps.Term("off", ps.over_parameters(ps.l2, model), enabled=False),
        ps.Term("squares", squares),
    ]
    pipeline = ps.Pipeline(terms)
    measured = pipeline.gradient_norms(x, options={"decay": {"scale": 3.0}})
    slopes = [
        length(gradients(ps.l2, weights(model), {"scale": 3.0})),
        length(gradients(sines, weights(model), {})),
    ]
    torch.testing.assert_close(measured.norms[:2], torch.stack(slopes))
    assert measured.norms[2].isnan()
    torch.testing.assert_close(measured.norms[3], 2 * x.norm())
    torch.testing.assert_close(measured.total_norm, 2 * x.norm())
    assert measured.norms_by_input["input"][:2].tolist() == [0, 0]
    model.requires_grad_(requires_grad=False)
    assert pipeline.gradient_norms(x).norms[:3].isnan().all()
