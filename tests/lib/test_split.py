"""What the split engine computes, held against plain autograd."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from tests.lib.pipelines import cubes, poison, squares, two_terms


def test_the_total_is_the_weighted_sum_of_values(x: Tensor) -> None:
    result = two_terms()(x, base=torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(result.values, torch.stack([squares(x), cubes(x)]))
    torch.testing.assert_close(result.contributions, result.values * torch.tensor([0.5, -2.0]))
    torch.testing.assert_close(result.total, 0.5 * squares(x) - 2 * cubes(x))
    torch.testing.assert_close(result.loss, result.total + 3)


def test_the_gradient_is_that_of_the_plain_sum(x: Tensor) -> None:
    x.requires_grad_()
    two_terms()(x.sin()).loss.backward()
    (plain,) = torch.autograd.grad(0.5 * squares(x.sin()) - 2 * cubes(x.sin()), x)
    torch.testing.assert_close(x.grad, plain)


def test_the_second_derivative_is_that_of_the_plain_sum(x: Tensor) -> None:
    x.requires_grad_()
    (first,) = torch.autograd.grad(two_terms()(x).loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    (plain_first,) = torch.autograd.grad(0.5 * squares(x) - 2 * cubes(x), x, create_graph=True)
    (plain_second,) = torch.autograd.grad(plain_first.square().sum(), x)
    torch.testing.assert_close(second, plain_second)


def test_norms_come_out_of_the_backward_pass(x: Tensor) -> None:
    x.requires_grad_()
    result = two_terms()(x)
    assert result.gradient_norms.isnan().all()
    assert result.total_gradient_norm.isnan()
    result.loss.backward()
    expected = [torch.autograd.grad(f(x), x)[0].norm() for f in (squares, cubes)]
    torch.testing.assert_close(result.gradient_norms, torch.stack(expected))
    assert x.grad is not None
    torch.testing.assert_close(result.total_gradient_norm, x.grad.norm())


def test_norms_also_come_out_of_autograd_grad(x: Tensor) -> None:
    x.requires_grad_()
    result = two_terms()(x.sin())
    torch.autograd.grad(result.loss, x)
    assert result.gradient_norms.isfinite().all()


@pytest.mark.parametrize("scale", [65536.0, 1 / 4, -1.0])
def test_norms_do_not_depend_on_the_scale_of_the_loss(x: Tensor, scale: float) -> None:
    x.requires_grad_()
    plain, scaled = two_terms()(x), two_terms()(x)
    plain.loss.backward()
    (scaled.loss * scale).backward()
    torch.testing.assert_close(scaled.gradient_norms, plain.gradient_norms)
    torch.testing.assert_close(scaled.total_gradient_norm, plain.total_gradient_norm)


def test_accumulated_micro_batches_each_have_their_own_norms(x: Tensor) -> None:
    x.requires_grad_()
    pipeline = two_terms()
    first, second = pipeline(x), pipeline(3 * x)
    (first.loss + second.loss).backward()
    alone = pipeline(x)
    alone.loss.backward()
    torch.testing.assert_close(first.gradient_norms, alone.gradient_norms)
    assert not torch.allclose(second.gradient_norms, first.gradient_norms)


def multi_input() -> ps.Pipeline:
    return ps.Pipeline(
        [
            ps.Term("a", lambda a, b: (a * b).sum(), inputs=("a", "b")),
            ps.Term("b", squares, weight=2.0, inputs=("b",)),
        ]
    )


def test_norms_cover_all_inputs_and_can_be_split_by_input(x: Tensor) -> None:
    a, b = x.clone().requires_grad_(), (x + 1).requires_grad_()
    result = multi_input()(a=a, b=b)
    result.loss.backward()
    by_input = result.gradient_norms_by_input
    torch.testing.assert_close(by_input["a"], torch.stack([b.norm(), torch.zeros_like(b[0, 0])]))
    torch.testing.assert_close(by_input["b"], torch.stack([a.norm(), 2 * b.norm()]))
    expected = (a.norm().square() + b.norm().square()).sqrt()
    torch.testing.assert_close(result.gradient_norms[0], expected)


def test_one_tensor_under_two_names_is_one_tensor(x: Tensor) -> None:
    x.requires_grad_()
    result = multi_input()(a=x, b=x)
    result.loss.backward()
    # d(x * x) = 2x: the norm of the sum, not the root of the sum of squares of two halves.
    torch.testing.assert_close(result.gradient_norms[0], 2 * x.norm())
    assert x.grad is not None
    torch.testing.assert_close(result.total_gradient_norm, x.grad.norm())


def test_an_input_may_depend_on_another_input(x: Tensor) -> None:
    x.requires_grad_()
    hidden = x.sin()
    result = multi_input()(a=hidden.cos(), b=hidden)
    result.loss.backward()
    h = x.sin()
    (plain,) = torch.autograd.grad((h.cos() * h).sum() + 2 * squares(h), x)
    torch.testing.assert_close(x.grad, plain)


def test_gradients_reach_what_a_penalty_closes_over(x: Tensor) -> None:
    layer = nn.Linear(7, 1, dtype=torch.float64)
    pipeline = ps.Pipeline([ps.Term("critic", lambda x: layer(x).square().mean(), weight=0.1)])
    pipeline(x).loss.backward()
    (plain,) = torch.autograd.grad(0.1 * layer(x).square().mean(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, plain)


@pytest.mark.parametrize(
    ("term", "value_is_kept"),
    [
        (ps.Term("bad", poison, weight=0.0), True),
        (ps.Term("bad", poison, enabled=False), False),
    ],
)
def test_a_term_that_does_not_count_cannot_poison(
    x: Tensor, term: ps.Term, value_is_kept: bool
) -> None:
    x.requires_grad_()
    result = ps.Pipeline([ps.Term("good", squares), term])(x)
    result.loss.backward()
    torch.testing.assert_close(result.total, squares(x))
    torch.testing.assert_close(x.grad, 2 * x.detach())
    assert result.values[1].isinf() if value_is_kept else result.values[1].isnan()
    assert result.contributions[1] == 0
    assert result.gradient_norms[1].isnan()
    assert result.gradient_shares.tolist() == [1, 0]


def test_a_term_that_is_not_differentiable_counts_in_the_total_and_not_in_the_norms(
    x: Tensor,
) -> None:
    x.requires_grad_()
    terms = [ps.Term("good", squares), ps.Term("count", cubes, differentiable=False)]
    result = ps.Pipeline(terms)(x)
    result.loss.backward()
    torch.testing.assert_close(result.total, squares(x) + cubes(x))
    # Should it have a gradient after all, that flows like any other.
    torch.testing.assert_close(x.grad, 2 * x.detach() + 3 * x.detach().square())
    assert result.gradient_norms[1].isnan()
    torch.testing.assert_close(result.total_gradient_norm, (2 * x.detach()).norm())


def test_without_grad_there_are_values_and_no_norms(x: Tensor) -> None:
    x.requires_grad_()
    with torch.no_grad():
        result = two_terms()(x)
    assert not result.loss.requires_grad
    torch.testing.assert_close(result.values[0], squares(x).detach())
    assert result.gradient_norms.isnan().all()


def test_values_in_half_precision_make_a_total_in_half_precision() -> None:
    x = torch.randn(7, dtype=torch.float16, requires_grad=True)
    result = ps.Pipeline([ps.Term("a", lambda x: x.sum(), weight=2.0)])(x)
    result.loss.backward()
    assert result.total.dtype == torch.float16
    torch.testing.assert_close(x.grad, torch.full_like(x, 2.0))
    torch.testing.assert_close(result.gradient_norms.item(), 7**0.5, rtol=1e-3, atol=0)


def test_a_weight_may_be_a_tensor_that_learns(x: Tensor) -> None:
    x.requires_grad_()
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("a", squares, weight=weight), ps.Term("b", cubes, weight=2)])
    result = pipeline(x)
    result.loss.backward()
    torch.testing.assert_close(weight.grad, squares(x).detach())
    with torch.no_grad():
        weight += 1  # what was recorded stays
    torch.testing.assert_close(result.weights, torch.tensor([0.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(result.gradient_norms[0], (2 * x).norm().detach())


def test_a_tensor_weight_of_zero_cannot_poison(x: Tensor) -> None:
    x.requires_grad_()
    zero = torch.zeros((), dtype=torch.float64)
    terms = [ps.Term("good", squares), ps.Term("bad", poison, weight=zero)]
    result = ps.Pipeline(terms)(x)
    result.loss.backward()
    torch.testing.assert_close(result.total, squares(x))
    torch.testing.assert_close(x.grad, 2 * x.detach())
    assert result.gradient_norms.isnan().tolist() == [False, True]


@pytest.mark.parametrize("bad", [poison, ps.l2], ids=["own", "closed"])
def test_a_weight_of_zero_learns_nothing_from_an_infinite_value(
    bad: Callable[[Tensor], Tensor],
) -> None:
    x = torch.full((3,), math.inf, requires_grad=True)
    zero = torch.zeros((), requires_grad=True)
    ps.Pipeline([ps.Term("bad", bad, weight=zero)])(x).loss.backward()
    assert zero.grad == 0


def test_conflict_is_the_cosine_of_weighted_gradients(x: Tensor) -> None:
    x.requires_grad_()
    terms = [
        ps.Term("a", squares, weight=3.0),
        ps.Term("b", cubes, weight=-0.1),
        ps.Term("off", squares, enabled=False),
    ]
    result = ps.Pipeline(terms, conflict=True)(x.sin())
    assert result.gradient_conflict.isnan().all()
    (4 * result.loss).backward()
    a, b = (
        torch.autograd.grad(f(y := x.sin().detach().requires_grad_()), y)[0]
        for f in (squares, cubes)
    )
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), -b.flatten(), dim=0)
    torch.testing.assert_close(result.gradient_conflict[0, 1], cosine)
    torch.testing.assert_close(result.gradient_conflict[0, 0], torch.ones_like(cosine))
    assert result.gradient_conflict[2].isnan().all()


def test_numbers_without_dimensions_have_conflicts_too() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    terms = [ps.Term("a", squares), ps.Term("b", cubes, weight=-1.0)]
    result = ps.Pipeline(terms, conflict=True)(x)
    result.loss.backward()
    assert result.gradient_conflict.tolist() == [[1, -1], [-1, 1]]


@pytest.mark.parametrize("penalty", [squares, ps.l2], ids=["own", "closed"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_norm_is_right_wherever_its_dtype_holds_it(
    penalty: Callable[[Tensor], Tensor], size: float
) -> None:
    terms = [ps.Term(name, penalty, inputs=(name,)) for name in "ab"]
    pipeline = ps.Pipeline(terms)
    a, b = (torch.full((4,), factor * size, requires_grad=True) for factor in (1.0, 2.0))
    result = pipeline(a=a, b=b)
    result.total.backward()
    expected = torch.tensor([4.0, 8.0]) * size  # squared, neither fits
    torch.testing.assert_close(result.gradient_norms, expected, atol=0, rtol=1e-6)
    measured = pipeline.gradient_norms(a=a, b=b)
    torch.testing.assert_close(measured.norms, expected, atol=0, rtol=1e-6)


def test_a_loss_scale_does_not_drown_the_norms_of_values_in_several_precisions() -> None:
    narrow = torch.ones(4, dtype=torch.float16, requires_grad=True)
    wide = torch.ones(4, requires_grad=True)
    terms = [
        ps.Term("narrow", torch.sum, inputs=("narrow",), weight=0.01),
        ps.Term("wide", torch.sum, inputs=("wide",)),
    ]
    result = ps.Pipeline(terms)(narrow=narrow, wide=wide)
    (result.loss * 65536).backward()  # which is infinite in float16
    torch.testing.assert_close(result.gradient_norms, torch.full((2,), 2.0), rtol=1e-3, atol=0)


def test_gradient_norms_outside_of_training_measure_every_term(x: Tensor) -> None:
    x = x.detach()
    pipeline = ps.Pipeline(
        [
            ps.Term("a", lambda a, b: (a * b).sum(), weight=2.0, inputs=("a", "b")),
            ps.Term("zero", squares, weight=0.0, inputs=("a",)),
            ps.Term("l2", ps.l2, weight=-1.0, inputs=("b",)),
            ps.Term("off", squares, inputs=("b",), enabled=False),
        ]
    )
    a, b = x, x + 1
    measured = pipeline.gradient_norms(a=a, b=b, options={"l2": {"scale": 0.5}})
    assert pipeline.step == 0
    expected = torch.stack([(a.norm() ** 2 + b.norm() ** 2).sqrt(), 2 * a.norm(), b.norm()])
    torch.testing.assert_close(measured.norms[:3], expected)
    assert measured.norms[3].isnan()
    torch.testing.assert_close(
        measured.norms_by_input["a"][:2], torch.stack([b.norm(), 2 * a.norm()])
    )
    total = ((2 * b).norm() ** 2 + (2 * a - b).norm() ** 2).sqrt()
    torch.testing.assert_close(measured.total_norm, total)
    torch.testing.assert_close(measured.shares.sum(), torch.ones_like(total))
    dot = -2 * (a * b).sum() / (expected[0] * b.norm() * 2)
    torch.testing.assert_close(measured.conflict[0, 2], dot)


def test_the_norm_of_a_single_function(x: Tensor) -> None:
    torch.testing.assert_close(ps.gradient_norm(squares, x), 2 * x.norm())
    torch.testing.assert_close(ps.gradient_norm(lambda x: x * 3, x), 3 * torch.ones_like(x).norm())
    assert ps.gradient_norm(lambda x: torch.ones(()), x) == 0
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        ps.gradient_norm(squares, torch.arange(3))
