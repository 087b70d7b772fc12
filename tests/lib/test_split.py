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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_half_precision_gradients_are_accumulated_wide(dtype: torch.dtype) -> None:
    x = torch.full((4096,), 30.0, dtype=dtype, requires_grad=True)
    result = ps.Pipeline([ps.Term("l2", ps.l2)])(x)
    result.loss.backward()
    # Squares of the gradient sum to 1.5e7, far past float16.
    torch.testing.assert_close(result.gradient_norms, torch.tensor([60.0 * 64]), rtol=1e-3, atol=0)


def test_a_norm_whose_square_overflows_is_still_right() -> None:
    x = torch.full((100,), 1e20, requires_grad=True)
    result = ps.Pipeline([ps.Term("line", lambda x: (x * 3e20).sum())])(x)
    result.loss.backward()
    torch.testing.assert_close(result.gradient_norms[0].double().item(), 3e21, rtol=1e-6, atol=0)


def test_a_long_float32_norm_keeps_its_digits() -> None:
    x = torch.full((1 << 24,), 1.1, requires_grad=True)
    result = ps.Pipeline([ps.Term("l2", ps.l2)])(x)
    result.loss.backward()
    torch.testing.assert_close(result.gradient_norms.item(), 2.2 * 4096, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flipped", [False, True], ids=["alike", "one with other strides"])
def test_long_gradients_are_added_and_measured_part_by_part(
    dtype: torch.dtype, flipped: bool
) -> None:
    x = torch.randn(517, 400, dtype=dtype, requires_grad=True)  # three parts and a rest

    def third(x: Tensor) -> Tensor:
        return (x.T.contiguous() if flipped else x).sin().sum()

    result = ps.Pipeline([ps.Term("a", squares), ps.Term("b", cubes), ps.Term("c", third)])(x)
    result.loss.backward()
    leaf = x.detach().double().requires_grad_()
    own = [torch.autograd.grad(term(leaf), leaf)[0] for term in (squares, cubes, third)]
    every = torch.stack([*own, own[0] + own[1] + own[2]])
    lengths = every.flatten(1).norm(dim=1).to(dtype)
    torch.testing.assert_close(x.grad, every[-1].to(dtype))
    torch.testing.assert_close(result.gradient_norms, lengths[:-1])
    torch.testing.assert_close(result.total_gradient_norm, lengths[-1])


def test_long_gradients_whose_squares_overflow_are_measured_all_the_same() -> None:
    x = torch.full((70_000,), 1e20, requires_grad=True)
    terms = [ps.Term(name, lambda x: (x * 3e20).sum()) for name in "ab"]
    result = ps.Pipeline(terms)(x)
    result.loss.backward()
    expected = torch.full((2,), 3e20 * 70_000**0.5)
    torch.testing.assert_close(result.gradient_norms, expected)


@pytest.mark.parametrize("open_", [True, False], ids=["open", "shut"])
def test_a_long_gradient_passes_only_where_the_weight_is_not_zero(open_: bool) -> None:
    x = torch.randn(70_000, dtype=torch.float64, requires_grad=True)
    weight = torch.full((), float(open_), dtype=torch.float64)
    term = cubes if open_ else poison
    result = ps.Pipeline([ps.Term("a", squares), ps.Term("b", term, weight=weight)])(x)
    result.loss.backward()
    own = [2 * x.detach(), 3 * x.detach().square() * float(open_)]
    torch.testing.assert_close(x.grad, own[0] + own[1])
    torch.testing.assert_close(result.gradient_norms[0], own[0].norm())
    assert result.gradient_norms[1].isnan() != open_


@pytest.mark.parametrize("length", [7, 70_000], ids=["short", "long"])
def test_a_graph_that_is_kept_can_be_gone_through_again(length: int) -> None:
    x = torch.randn(length, dtype=torch.float64, requires_grad=True)
    result = two_terms()(x)
    result.loss.backward(retain_graph=True)
    first = result.gradient_norms
    (4 * result.loss).backward()
    torch.testing.assert_close(result.gradient_norms, first)
    plain = x.detach() - 6 * x.detach().square()
    torch.testing.assert_close(x.grad, 5 * plain)
    torch.testing.assert_close(result.total_gradient_norm, plain.norm())


def test_the_second_derivative_of_a_long_tensor_is_that_of_the_plain_sum() -> None:
    x = torch.randn(70_000, dtype=torch.float64, requires_grad=True)
    result = two_terms()(x)
    (first,) = torch.autograd.grad(result.loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    plain_first = x.detach() - 6 * x.detach().square()
    torch.testing.assert_close(second, 2 * plain_first * (1 - 12 * x.detach()))
    torch.testing.assert_close(result.total_gradient_norm, plain_first.norm())


def test_short_and_long_tensors_are_measured_in_one_pass() -> None:
    a = torch.randn(9, requires_grad=True)
    b = torch.randn(70_000, requires_grad=True)
    terms = [
        ps.Term("both", lambda a, b: squares(a) + squares(b), inputs=("a", "b")),
        ps.Term("b", cubes, inputs=("b",)),
        ps.Term("a", cubes, inputs=("a",)),
    ]
    result = ps.Pipeline(terms)(a=a, b=b)
    result.loss.backward()
    x, y = a.detach().double(), b.detach().double()
    by_input = result.gradient_norms_by_input
    expected = torch.stack([(2 * x).norm(), x.new_zeros(()), (3 * x.square()).norm()])
    torch.testing.assert_close(by_input["a"], expected.float())
    expected = torch.stack([(2 * y).norm(), (3 * y.square()).norm(), y.new_zeros(())])
    torch.testing.assert_close(by_input["b"], expected.float())


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


@pytest.mark.parametrize("length", [7, 70_000], ids=["short", "long"])
def test_many_backward_passes_at_once_give_gradients_and_no_norms(length: int) -> None:
    x = torch.randn(length, dtype=torch.float64, requires_grad=True)
    result = two_terms()(x)
    scales = torch.tensor([1.0, -2.0], dtype=torch.float64)
    (found,) = torch.autograd.grad(result.loss, x, scales, is_grads_batched=True)
    plain = x.detach() - 6 * x.detach().square()
    torch.testing.assert_close(found, scales[:, None] * plain)
    assert result.gradient_norms.isnan().all()


@pytest.mark.parametrize("length", [7, 70_000], ids=["short", "long"])
def test_complex_gradients_are_measured_with_both_parts(length: int) -> None:
    z = torch.randn(length, dtype=torch.complex64, requires_grad=True)
    terms = [
        ps.Term("size", lambda z: (z * z.conj()).real.sum()),
        ps.Term("part", lambda z: 2 * z.imag.sum(), weight=0.5),
    ]
    result = ps.Pipeline(terms, conflict=True)(z)
    result.loss.backward()
    size = 2 * torch.linalg.vector_norm(z.detach().to(torch.complex128)).float()
    expected = torch.stack([size, torch.tensor(2 * length**0.5)])
    torch.testing.assert_close(result.gradient_norms, expected)
    cosine = z.detach().imag.sum() * 2 / size / length**0.5
    torch.testing.assert_close(result.gradient_conflict[0, 1], cosine, rtol=1e-4, atol=1e-6)


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
