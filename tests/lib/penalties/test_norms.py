import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penaltyscope.penalties import elastic_net, l1, l2, output_magnitude_penalty
from tests.lib import closed_forms
from tests.lib.penalties.calls import NORM_CALLS, Call, Penalty
from tests.lib.penalties.strategies import relaxed, tensors

NORMS = (l1, l2, elastic_net, output_magnitude_penalty)
every_norm = pytest.mark.parametrize("penalty", NORMS, ids=lambda f: f.__name__)


def gradient(penalty: Penalty, x: Tensor, **options: object) -> Tensor:
    leaf = x.clone().requires_grad_()
    penalty(leaf, **options).backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize(
    ("penalty", "options", "want"),
    [
        (l1, {}, 6.0),
        (l1, {"scale": -0.5}, -3.0),
        (l1, {"reduction": "mean"}, 2.0),
        (l2, {}, 14.0),
        (l2, {"reduction": "mean", "scale": 3.0}, 14.0),
        (l2, {"center": 1.0}, 0.0 + 9.0 + 4.0),
        (l2, {"center": "mean"}, 14.0 - 3 * (2 / 3) ** 2),
        (l2, {"clip": 1.5}, 1.0 + 2.25 + 2.25),
        (l2, {"center": 1.0, "clip": 2.5}, 0.0 + 6.25 + 4.0),
        (elastic_net, {}, 0.5 * 6 + 0.5 * 14),
        (elastic_net, {"l1_ratio": 0.25, "scale": 2.0}, 2 * (0.25 * 6 + 0.75 * 14)),
        (elastic_net, {"l1_ratio": 1.0}, 6.0),
        (elastic_net, {"l1_ratio": 0.0}, 14.0),
        (output_magnitude_penalty, {}, (math.sqrt(14 / 3) - 1) ** 2),
        (output_magnitude_penalty, {"target": 2.0, "reduction": "sum"}, (math.sqrt(14) - 2) ** 2),
    ],
)
def test_values_by_hand(penalty: Penalty, options: dict[str, Any], want: float) -> None:
    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert penalty(x, **options).item() == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    "call",
    [c for c in NORM_CALLS if c.penalty in NORMS and "mask" not in c.options],
    ids=str,
)
def test_value_and_gradient_are_the_closed_forms(call: Call) -> None:
    (x,) = call.tensors
    formula = getattr(closed_forms, call.penalty.__name__)
    value, (slope,) = formula(x.numpy(), **call.options)
    np.testing.assert_allclose(call.value().numpy(), value, rtol=1e-13)
    np.testing.assert_allclose(gradient(call.bound, x).numpy(), slope, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("options", [{}, {"reduction": "mean"}, {"scale": 2.0}])
@pytest.mark.parametrize("penalty", [l1, elastic_net], ids=lambda f: f.__name__)
def test_the_gradient_of_the_absolute_value_at_zero_is_zero(
    penalty: Penalty, options: dict[str, Any]
) -> None:
    assert gradient(penalty, torch.tensor([0.0, -0.0]), **options).tolist() == [0.0, 0.0]


def test_the_gradient_passes_at_the_bound_of_clip_and_stops_beyond() -> None:
    x = torch.tensor([1.0, -1.0, 1.5, -3.0, 0.5])
    assert gradient(l2, x, clip=1.0).tolist() == [2.0, -2.0, 0.0, 0.0, 1.0]


def test_clip_tames_an_infinity() -> None:
    x = torch.tensor([math.inf, 1.0])
    assert l2(x, clip=2.0).item() == 5.0
    assert gradient(l2, x, clip=2.0).tolist() == [0.0, 2.0]


def test_elastic_net_does_not_compute_the_part_that_counts_nothing() -> None:
    # Neither an infinity nor a square that overflows may meet a factor of 0.
    assert elastic_net(torch.tensor([1e30, -2.0]), l1_ratio=1.0).item() == pytest.approx(1e30)
    for ratio in (0.0, 1.0):
        assert elastic_net(torch.tensor([math.inf]), l1_ratio=ratio).item() == math.inf


@every_norm
def test_a_nan_is_not_hidden(penalty: Penalty) -> None:
    assert penalty(torch.tensor([1.0, math.nan])).isnan()


@every_norm
def test_empty_tensors_are_sums_over_nothing(penalty: Penalty) -> None:
    want = 1.0 if penalty is output_magnitude_penalty else 0.0
    for reduction in ("sum", "mean"):
        x = torch.zeros(0, 3, requires_grad=True)
        value = penalty(x, reduction=reduction)
        value.backward()
        assert value.item() == want
        assert x.grad is not None
        assert x.grad.shape == (0, 3)


@every_norm
def test_a_number_is_a_tensor_of_one_element(penalty: Penalty) -> None:
    assert torch.equal(penalty(torch.tensor(-3.0)), penalty(torch.tensor([-3.0])))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_magnitude_of_zeros_has_no_slope(reduction: str) -> None:
    zeros = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = output_magnitude_penalty(zeros, reduction=reduction)  # type: ignore[arg-type]
    (first,) = torch.autograd.grad(value, zeros, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), zeros)
    assert (value.item(), first.tolist(), second.tolist()) == (1.0, [0.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("size", [1e-25, 1e24])
def test_the_magnitude_is_right_where_its_square_does_not_fit(size: float) -> None:
    x = torch.tensor([3.0, 4.0]) * size
    slope = gradient(output_magnitude_penalty, x, target=0.0, reduction="sum")
    torch.testing.assert_close(slope, 2 * x, rtol=1e-4, atol=0)


def test_half_precision_does_not_overflow_where_the_value_fits() -> None:
    x = torch.full((1000,), 200.0, dtype=torch.float16)
    assert l1(x).item() == 200_000.0
    assert l2(x).item() == 40_000_000.0


@relaxed
@given(tensors(), st.floats(-3, 3))
def test_scale_multiplies(x: Tensor, scale: float) -> None:
    for penalty in (l1, l2, elastic_net):
        torch.testing.assert_close(penalty(x, scale=scale), scale * penalty(x))


@relaxed
@given(tensors(), st.floats(0, 3))
def test_l1_grows_with_its_argument_and_l2_with_its_square(x: Tensor, factor: float) -> None:
    torch.testing.assert_close(l1(factor * x), factor * l1(x))
    torch.testing.assert_close(l2(factor * x), factor**2 * l2(x))


@relaxed
@given(tensors(), st.floats(0, 1))
def test_elastic_net_lies_between_its_parts(x: Tensor, ratio: float) -> None:
    low, high = sorted((l1(x).item(), l2(x).item()))
    assert low - 1e-9 <= elastic_net(x, l1_ratio=ratio).item() <= high + 1e-9


@relaxed
@given(tensors(), st.randoms(use_true_random=False))
def test_order_and_sign_do_not_matter(x: Tensor, random: Random) -> None:
    shuffled = torch.tensor(random.sample(x.flatten().tolist(), x.numel()), dtype=x.dtype)
    for penalty in NORMS:
        torch.testing.assert_close(penalty(-shuffled), penalty(x))


@relaxed
@given(tensors(), st.floats(-5, 5))
def test_a_shift_does_not_matter_to_l2_about_the_mean(x: Tensor, shift: float) -> None:
    torch.testing.assert_close(
        l2(x + shift, center="mean"), l2(x, center="mean"), rtol=1e-9, atol=1e-9
    )


@relaxed
@given(tensors(), st.floats(0.1, 5))
def test_clip_bounds_l2(x: Tensor, clip: float) -> None:
    assert l2(x, clip=clip, reduction="mean").item() <= clip**2 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("penalty", "options", "message"),
    [
        (l1, {"reduction": "none"}, r"reduction must be one of 'mean', 'sum', got 'none'\."),
        (l1, {"scale": math.nan}, r"scale must be finite, got nan\."),
        (l1, {"scale": math.inf}, r"scale must be finite, got inf\."),
        (l2, {"clip": 0.0}, r"clip must be positive and finite, got 0\.0\."),
        (l2, {"center": "median"}, r"center must be None, 'mean' or a number, got 'median'\."),
        (l2, {"center": math.nan}, r"center must be finite, got nan\."),
        (elastic_net, {"l1_ratio": 1.5}, r"l1_ratio must be finite, at least 0 and at most 1, got"),
        (output_magnitude_penalty, {"target": math.inf}, r"target must be finite, got inf\."),
    ],
)
def test_options_are_checked(penalty: Penalty, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        penalty(torch.ones(2), **options)


@every_norm
def test_what_is_no_tensor_is_refused(penalty: Penalty) -> None:
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor, got list\."):
        penalty([1.0])
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor, got torch\.complex64"):
        penalty(torch.ones(2, dtype=torch.complex64))


def test_a_number_must_be_a_number() -> None:
    with pytest.raises(TypeError, match=r"scale must be a number, got str\."):
        l1(torch.ones(1), scale="2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"clip must be a number, got list\."):
        l2(torch.ones(1), clip=[1.0])  # type: ignore[arg-type]
