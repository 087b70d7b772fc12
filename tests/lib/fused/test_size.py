"""Sizes of many tensors, held against the plain penalties and their gradients by autograd."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from penaltyscope._fused import size, size_of
from penaltyscope.penalties import elastic_net, entropy, group_lasso, l1, l2

Penalty = tuple[object, Mapping[str, object]]

SIZES = {
    "l1": (l1, {}),
    "scaled l1": (l1, {"scale": -3}),
    "l2": (l2, {"scale": 0.5}),
    "elastic net": (elastic_net, {}),
    "scaled elastic net": (elastic_net, {"scale": -2.0, "l1_ratio": 0.3}),
    "elastic net at one end": (elastic_net, {"l1_ratio": 1}),
    "elastic net at the other end": (elastic_net, {"l1_ratio": 0}),
}


def several(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = (3, 5), (4,), (), (0, 2), (2, 3, 2)
    tensors = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    tensors[0][1] = 0  # where |x| has a kink
    return [*tensors, tensors[0].T.contiguous().T]


def plainly(penalty: Penalty, tensors: Sequence[Tensor], moving: int) -> tuple[Tensor, Tensor]:
    """The sum over all tensors, and the norm of its gradient by the first ones."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    function, options = penalty
    value = torch.stack([function(x, **options) for x in leaves]).sum()  # type: ignore[operator]
    gradients = torch.autograd.grad(value, leaves[:moving])
    return value.detach(), torch.cat([g.flatten().double() for g in gradients]).norm()


@pytest.mark.parametrize("penalty", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("moving", [1, 6])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.usefixtures("way")
def test_value_and_norm_are_those_of_the_penalties(
    penalty: Penalty, moving: int, dtype: torch.dtype
) -> None:
    tensors = several(dtype)
    what = size_of(*penalty)  # type: ignore[arg-type]
    assert what is not None
    value, norm = size(what, tensors[:moving], tensors[moving:])
    want_value, want_norm = plainly(penalty, tensors, moving)
    torch.testing.assert_close(value, want_value)
    # A gradient in half precision has been rounded, this norm has not.
    tolerance = 4 * torch.finfo(dtype).eps
    assert float(norm) == pytest.approx(want_norm.item(), rel=tolerance)


@pytest.mark.parametrize("penalty", SIZES.values(), ids=SIZES)
@pytest.mark.usefixtures("way")
def test_derivatives_of_both_orders_are_right(penalty: Penalty) -> None:
    what = size_of(*penalty)  # type: ignore[arg-type]
    assert what is not None
    # Away from 0, where a difference quotient sees the kink.
    tensors = [(x.sign() + x).requires_grad_() for x in several(torch.float64)[1:5]]

    def value(*tensors: Tensor) -> Tensor:
        return size(what, tensors, [])[0].square()

    assert torch.autograd.gradcheck(value, tensors)
    assert torch.autograd.gradgradcheck(value, tensors)


@pytest.mark.parametrize("penalty", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), float("-inf")], ids=["nan", "inf", "-inf"]
)
@pytest.mark.usefixtures("way")
def test_what_is_not_finite_is_found(penalty: Penalty, bad: float) -> None:
    tensors = several(torch.float32)
    tensors[0][0, 0] = bad
    what = size_of(*penalty)  # type: ignore[arg-type]
    assert what is not None
    value, norm = size(what, tensors, [])
    want_value, want_norm = plainly(penalty, tensors, len(tensors))
    assert not value.isfinite()
    torch.testing.assert_close(value, want_value, equal_nan=True)
    assert float(norm) == pytest.approx(want_norm.item(), rel=1e-5, nan_ok=True)


@pytest.mark.usefixtures("way")
def test_squares_that_overflow_have_a_norm_all_the_same() -> None:
    what = size_of(l2, {})
    assert what is not None
    value, norm = size(what, [torch.full((100,), 1e20)], [])
    assert value.isinf()
    assert float(norm) == pytest.approx(2e21, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("penalty", [(l1, {"scale": 1e-9}), (l2, {"scale": 1e-9})])
def test_a_loss_scale_keeps_small_gradients_in_half_precision(
    penalty: Penalty, dtype: torch.dtype
) -> None:
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    what = size_of(*penalty)  # type: ignore[arg-type]
    assert what is not None
    (2.0**16 * size(what, [x], [])[0]).backward()
    plain = x.detach().requires_grad_()
    function, options = penalty
    (2.0**16 * function(plain, **options)).backward()  # type: ignore[operator]
    assert x.grad is not None
    assert x.grad.all()
    torch.testing.assert_close(x.grad, plain.grad)


def test_a_dtype_that_is_wider_is_that_of_the_value() -> None:
    what = size_of(l2, {})
    assert what is not None
    tensors = torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.float64)
    assert size(what, tensors[:1], [])[0].dtype == torch.float32
    assert size(what, tensors[:1], tensors[1:])[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("penalty", "options"),
    [
        (l2, {"clip": 1.0}),
        (l2, {"center": "mean"}),
        (l2, {"mask": torch.ones(3, dtype=torch.bool)}),
        (l2, {"reduction": "mean"}),
        (l1, {"reduction": "none"}),
        (l1, {"l1_ratio": 0.5}),
        (l1, {"scale": "large"}),
        (l1, {"scale": torch.ones(())}),
        (l1, {"scale": 0.0}),
        (l1, {"scale": 1e-40}),
        (l2, {"scale": float("inf")}),
        (l2, {"scale": float("nan")}),
        (elastic_net, {"l1_ratio": 2.0}),
        (elastic_net, {"l1_ratio": "half"}),
        (group_lasso, {}),
        (entropy, {}),
        (torch.sum, {}),
    ],
)
def test_everything_else_is_no_size(penalty: object, options: Mapping[str, object]) -> None:
    assert size_of(penalty, options) is None  # type: ignore[arg-type]


def test_a_callable_need_not_be_hashable() -> None:
    class Own:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x: Tensor) -> Tensor:
            return x.sum()

    assert size_of(Own(), {}) is None
