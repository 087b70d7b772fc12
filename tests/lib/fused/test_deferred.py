"""Sums over tensors in closed form, held against the plain penalties and autograd."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from penaltyscope._fused import (
    Deferrable,
    deferred,
    elastic_net_size,
    l1_size,
    l2_size,
    lasso_groups,
)
from penaltyscope._scalar import Scalar
from penaltyscope.penalties import elastic_net, group_lasso, l1, l2


class Sum(NamedTuple):
    penalty: Callable[..., Tensor]
    form: Callable[..., Deferrable | None]
    options: Mapping[str, float] = {}

    def plain(self, tensors: Sequence[Tensor], _weights: Sequence[Tensor] = ()) -> Tensor:
        return torch.stack([self.penalty(x, **self.options) for x in tensors]).sum()

    def __call__(self, moving: Sequence[Tensor], still: Sequence[Tensor]) -> tuple[Tensor, Scalar]:
        what = self.form(**self.options)
        assert what is not None
        assert what.takes([*moving, *still])
        plain = partial(self._whole, still)
        return deferred(what, plain, moving, still)

    def _whole(
        self, still: Sequence[Tensor], moving: Sequence[Tensor], _weights: Sequence[Tensor]
    ) -> Tensor:
        return self.plain([*moving, *still])


SUMS = {
    "l1": Sum(l1, l1_size),
    "scaled l1": Sum(l1, l1_size, {"scale": -3}),
    "l2": Sum(l2, l2_size, {"scale": 0.5}),
    "elastic net": Sum(elastic_net, elastic_net_size),
    "scaled elastic net": Sum(elastic_net, elastic_net_size, {"scale": -2.0, "l1_ratio": 0.3}),
    "elastic net at one end": Sum(elastic_net, elastic_net_size, {"l1_ratio": 1}),
    "elastic net at the other end": Sum(elastic_net, elastic_net_size, {"l1_ratio": 0}),
    "group lasso": Sum(group_lasso, lasso_groups),
    "scaled group lasso by another dimension": Sum(
        group_lasso, lasso_groups, {"scale": -2.0, "dim": -1}
    ),
}
each_sum = pytest.mark.parametrize("one", SUMS.values(), ids=SUMS)


def several(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (3, 5), (4,), (), (0, 2), (2, 0), (2, 3, 2)
    tensors = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    tensors[0][1] = 0  # where |x| has a kink
    tensors[1][2] = 0
    return [*tensors, tensors[0].T.contiguous().T]


def plainly(one: Sum, tensors: Sequence[Tensor], moving: int) -> tuple[Tensor, Tensor]:
    """The sum over all tensors, and the norm of its gradient by the first ones."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    value = one.plain(leaves)
    gradients = torch.autograd.grad(value, leaves[:moving])
    return value.detach(), torch.cat([g.flatten().double() for g in gradients]).norm()


@each_sum
@pytest.mark.parametrize("moving", [1, 7])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.usefixtures("way")
def test_value_and_norm_are_those_of_the_penalties(
    one: Sum, moving: int, dtype: torch.dtype
) -> None:
    tensors = several(dtype)
    value, norm = one(tensors[:moving], tensors[moving:])
    want_value, want_norm = plainly(one, tensors, moving)
    torch.testing.assert_close(value, want_value)
    # A gradient in half precision has been rounded, this norm has not.
    tolerance = 4 * torch.finfo(dtype).eps
    assert float(norm) == pytest.approx(want_norm.item(), rel=tolerance)


@each_sum
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.usefixtures("way")
def test_gradients_are_those_of_the_penalties(one: Sum, dtype: torch.dtype) -> None:
    tensors = [x.requires_grad_() for x in several(dtype)]
    (4 * one(tensors, [])[0]).backward()
    plain = torch.autograd.grad(4 * one.plain(tensors), tensors)
    torch.testing.assert_close([x.grad for x in tensors], [*plain])


@each_sum
@pytest.mark.usefixtures("way")
def test_derivatives_of_both_orders_are_right(one: Sum) -> None:
    # Away from 0, where a difference quotient sees the kink.
    first, _, _, *rest, _ = [(x.sign() + x).requires_grad_() for x in several(torch.float64)]
    tensors = [(first + 2).detach().requires_grad_(), *rest]

    def value(*tensors: Tensor) -> Tensor:
        return one(tensors, [])[0].square()

    assert torch.autograd.gradcheck(value, tensors)
    assert torch.autograd.gradgradcheck(value, tensors)


@each_sum
@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "-inf"]
)
@pytest.mark.usefixtures("way")
def test_what_is_not_finite_is_found(one: Sum, bad: float) -> None:
    tensors = several(torch.float32)
    tensors[0][0, 0] = bad
    value, norm = one(tensors, [])
    want_value, want_norm = plainly(one, tensors, len(tensors))
    assert not value.isfinite()
    torch.testing.assert_close(value, want_value, equal_nan=True)
    assert float(norm) == pytest.approx(want_norm.item(), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("size", [1e-25, 1e-18, 1e18, 1e25])
@pytest.mark.usefixtures("way")
def test_slices_may_be_of_any_length(size: float) -> None:
    x = torch.full((3, 4), size, requires_grad=True)
    with torch.no_grad():
        x[1] = 1e-17
        x[2] = 0
    value, norm = SUMS["group lasso"]([x], [])
    value.backward()
    # √s x / ‖x‖ is 1 for every element.
    assert value.item() == pytest.approx(4 * (size + 1e-17))
    assert float(norm) == pytest.approx(8**0.5)
    torch.testing.assert_close(x.grad, torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 4))


def test_a_slice_that_is_nearly_zero_never_pulls_without_bound() -> None:
    x = torch.full((2, 4), 1e-38, requires_grad=True)
    with torch.no_grad():
        x[1] = 1.0
    (1e20 * SUMS["group lasso"]([x], [])[0]).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().max() <= 1e20


@pytest.mark.usefixtures("way")
def test_squares_that_overflow_have_a_norm_all_the_same() -> None:
    value, norm = Sum(l2, l2_size)([torch.full((100,), 1e20)], [])
    assert value.isinf()
    assert float(norm) == pytest.approx(2e21, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "one",
    [
        Sum(l1, l1_size, {"scale": 1e-9}),
        Sum(l2, l2_size, {"scale": 1e-9}),
        Sum(group_lasso, lasso_groups, {"scale": 1e-9}),
    ],
)
def test_a_loss_scale_keeps_small_gradients_in_half_precision(one: Sum, dtype: torch.dtype) -> None:
    x = torch.ones(3, 2, dtype=dtype, requires_grad=True)
    (2.0**16 * one([x], [])[0]).backward()
    (plain,) = torch.autograd.grad(2.0**16 * one.plain([x]), x)
    assert x.grad is not None
    assert x.grad.all()
    torch.testing.assert_close(x.grad, plain)


def test_a_dtype_that_is_wider_is_that_of_the_value() -> None:
    tensors = torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.float64)
    assert SUMS["l2"](tensors[:1], [])[0].dtype == torch.float32
    assert SUMS["l2"](tensors[:1], tensors[1:])[0].dtype == torch.float64


@pytest.mark.parametrize("scale", [0.0, 1e-40, float("inf"), float("nan"), torch.ones(()), "large"])
@pytest.mark.parametrize("form", [l1_size, l2_size, elastic_net_size, lasso_groups])
def test_a_scale_out_of_the_ordinary_is_left_to_the_penalty(
    form: Callable[..., Deferrable | None], scale: object
) -> None:
    try:
        assert form(scale=scale) is None
    except TypeError:
        assert scale == "large"


def test_means_and_dimensions_that_are_not_there_are_left_to_the_penalty() -> None:
    for form in (l1_size, l2_size, elastic_net_size):
        assert form(reduction="mean") is None
    assert elastic_net_size(l1_ratio=2.0) is None
    groups = lasso_groups(dim=1)
    assert groups is not None
    assert groups.takes([torch.ones(2, 2), torch.ones(())])
    assert not groups.takes([torch.ones(2, 2), torch.ones(2)])
