"""Norms out of the backward pass: of long gradients and short ones, of any kind and size."""

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from tests.lib.pipelines import cubes, poison, squares, two_terms


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
