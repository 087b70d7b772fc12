import math

import pytest
import torch
from hypothesis import given

from penaltyscope._numerics import accumulator, magnitude, norm, unit
from tests.lib.penalties.strategies import relaxed, tensors

NARROW = (torch.float16, torch.bfloat16, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_narrow_floats_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    assert accumulator(torch.ones(2).to(dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_wide_floats_are_accumulated_as_they_are(dtype: torch.dtype) -> None:
    x = torch.ones(2, dtype=dtype)
    assert accumulator(x) is x


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1.0, 1e25, 3e37])
def test_the_norm_is_right_for_any_size_of_element(size: float) -> None:
    x = (torch.tensor([[3.0, 4.0], [0.0, 0.0]]) * size).requires_grad_()
    length = norm(x)
    (gradient,) = torch.autograd.grad(length.sum(), x)
    torch.testing.assert_close(length / size, torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_the_norm_in_float64_covers_its_range() -> None:
    x = torch.tensor([3e200, 4e200], dtype=torch.float64)
    assert norm(x).item() == pytest.approx(5e200, rel=1e-14)
    assert norm(x / 1e250 / 1e200).item() == pytest.approx(5e-250, rel=1e-14)


def test_the_norm_of_infinities_is_infinite_and_of_nans_is_nan() -> None:
    assert norm(torch.tensor([1.0, -math.inf])).item() == math.inf
    assert norm(torch.tensor([1.0, math.nan])).isnan()
    assert norm(torch.tensor([math.inf, math.nan])).isnan()


def test_the_norm_of_nothing_is_zero() -> None:
    assert norm(torch.zeros(2, 0)).tolist() == [0.0, 0.0]


def test_derivatives_of_the_norm_stay_finite_at_zero() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(norm(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert (first.tolist(), second.tolist()) == ([0.0] * 3, [0.0] * 3)


@relaxed
@given(tensors((3, 4)))
def test_the_norm_is_the_root_of_the_sum_of_squares(x: torch.Tensor) -> None:
    torch.testing.assert_close(norm(x), x.square().sum(-1).sqrt())


@relaxed
@given(tensors((3, 4)))
def test_unit_vectors_have_length_one_or_are_zero(x: torch.Tensor) -> None:
    directions, zero = unit(x)
    assert torch.equal(zero.squeeze(-1), ~x.any(-1))
    torch.testing.assert_close(norm(directions), (~zero).squeeze(-1).double())


@pytest.mark.parametrize(
    ("numbers", "want"),
    [([1.0, -3.0], 3.0), ([0.0], 1.1754943508222875e-38), ([math.inf], 3.4028234663852886e38)],
)
def test_the_magnitude_is_a_safe_divisor(numbers: list[float], want: float) -> None:
    x = torch.tensor(numbers, requires_grad=True)
    got = magnitude(x)
    assert got.tolist() == [want]
    assert not got.requires_grad
