"""A mask gives what dropping the positions gives, whatever they hold."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from penaltyscope.penalties import (
    consistency,
    elastic_net,
    entropy,
    js_divergence,
    kl_divergence,
    l1,
    l2,
    orthogonality,
    output_magnitude_penalty,
    sampled_kl,
)
from tests.lib.penalties.calls import Penalty
from tests.lib.penalties.strategies import log_probabilities, masks, relaxed, tensors

ONE_INPUT: list[Penalty] = [
    *(partial(f, reduction=r) for f in (l1, l2, elastic_net) for r in ("sum", "mean")),
    *(partial(output_magnitude_penalty, reduction=r) for r in ("sum", "mean")),
    *(partial(l2, center="mean", clip=1.5, reduction=r) for r in ("sum", "mean")),
    *(partial(entropy, reduction=r, temperature=t) for r in ("sum", "mean") for t in (1.0, 2.0)),
    *(
        partial(orthogonality, mode=m, normalize=n)
        for m in ("soft", "hard", "spectral")
        for n in (True, False)
    ),
]
TWO_INPUTS: list[Penalty] = [
    *(
        partial(kl_divergence, reduction=r, symmetric=s)
        for r in ("sum", "mean")
        for s in (True, False)
    ),
    *(partial(js_divergence, reduction=r) for r in ("sum", "mean")),
    *(
        partial(consistency, metric=m, reduction=r)
        for m in ("mse", "l1", "cosine", "kl")
        for r in ("sum", "mean")
    ),
    *(partial(sampled_kl, estimator=e) for e in ("k1", "k2", "k3")),
]


def differentiate(penalty: Penalty, *tensors: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.clone().requires_grad_() for x in tensors]
    value = penalty(*leaves)
    return value.detach(), list(torch.autograd.grad(value, leaves))


def check_that_masking_is_dropping(penalty: Penalty, mask: Tensor, *tensors: Tensor) -> None:
    want, want_gradients = differentiate(penalty, *(x[mask] for x in tensors))
    garbage = [x.masked_fill(~mask[:, None], torch.nan) for x in tensors]
    got, gradients = differentiate(partial(penalty, mask=mask), *garbage)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    for gradient, want_gradient in zip(gradients, want_gradients, strict=True):
        torch.testing.assert_close(gradient[mask], want_gradient, rtol=1e-8, atol=1e-10)
        assert not gradient[~mask].any()


@relaxed
@given(log_probabilities(impossible=False), masks())
def test_masking_one_input_is_dropping_positions(x: Tensor, mask: Tensor) -> None:
    for penalty in ONE_INPUT:
        check_that_masking_is_dropping(penalty, mask, x)


@relaxed
@given(log_probabilities(), log_probabilities(), masks())
def test_masking_two_inputs_is_dropping_positions(a: Tensor, b: Tensor, mask: Tensor) -> None:
    for penalty in TWO_INPUTS:
        check_that_masking_is_dropping(penalty, mask, a, b)


@relaxed
@given(log_probabilities(positions=12), masks(12))
def test_masking_batches_of_sequences_is_dropping_positions(x: Tensor, mask: Tensor) -> None:
    for penalty in ONE_INPUT:
        want, _ = differentiate(penalty, x[mask])
        folded, folded_mask = x.reshape(3, 4, 4), mask.reshape(3, 4)
        got, _ = differentiate(partial(penalty, mask=folded_mask), folded)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@relaxed
@given(tensors((4, 3)), masks(4))
def test_masked_positions_are_no_features_of_the_columns(x: Tensor, mask: Tensor) -> None:
    for mode in ("soft", "hard", "spectral"):
        options: Any = {"mode": mode, "axis": "vocabulary"}
        if mask.any():
            check_that_masking_is_dropping(partial(orthogonality, **options), mask, x)
        else:  # without features there are no columns either
            assert orthogonality(x, mask=mask, **options).item() == 0.0


@relaxed
@given(tensors((2, 4, 3)), masks(4))
def test_a_place_that_no_sequence_has_is_dropped(x: Tensor, mask: Tensor) -> None:
    for mode in ("soft", "hard", "spectral"):
        options: Any = {"mode": mode, "axis": "sequence"}
        got = orthogonality(x, mask=mask.expand(2, 4), **options)
        torch.testing.assert_close(got, orthogonality(x[:, mask], **options))


@relaxed
@given(tensors((3, 4)), masks(12))
def test_norms_take_masks_of_single_elements(x: Tensor, mask: Tensor) -> None:
    mask = mask.reshape(3, 4)
    for penalty in (l1, l2, elastic_net, partial(l2, reduction="mean", center="mean")):
        torch.testing.assert_close(penalty(x, mask=mask), penalty(x[mask]))


@pytest.mark.parametrize("penalty", [kl_divergence, js_divergence, sampled_kl, consistency])
def test_values_per_position_are_zero_where_dropped(penalty: Penalty) -> None:
    p = torch.log_softmax(torch.arange(12.0).reshape(3, 4).sin(), -1)
    mask = torch.tensor([True, False, True])
    each = penalty(p, p.flip(0), reduction="none", mask=mask)
    torch.testing.assert_close(each[mask], penalty(p, p.flip(0), reduction="none")[mask])
    assert not each[1].any()


@pytest.mark.parametrize(
    "penalty", [l1, l2, elastic_net, entropy], ids=lambda penalty: penalty.__name__
)
def test_the_mean_over_nothing_is_zero_with_zero_gradient(penalty: Penalty) -> None:
    nothing = torch.zeros(2, dtype=torch.bool)
    value, (gradient,) = differentiate(
        partial(penalty, reduction="mean", mask=nothing), torch.full((2, 3), torch.nan)
    )
    assert value.item() == 0.0
    assert not gradient.any()


def test_float64_keeps_its_digits_under_a_mask() -> None:
    x = torch.tensor([1.0, 1e-12, 5.0, 7.0], dtype=torch.float64)
    mask = torch.tensor([True, True, True, False])
    assert l1(x, reduction="mean", mask=mask).item() == pytest.approx((6 + 1e-12) / 3, rel=1e-15)


MASKED: list[Callable[[Tensor], Tensor]] = [
    lambda mask: l1(torch.ones(2, 3), mask=mask),
    lambda mask: kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), mask=mask),
    lambda mask: orthogonality(torch.ones(2, 3), mask=mask),
    lambda mask: consistency(torch.zeros(2, 3), torch.zeros(2, 3), mask=mask),
]


@pytest.mark.parametrize("call", MASKED)
def test_masks_are_checked(call: Callable[[Any], Tensor]) -> None:
    with pytest.raises(TypeError, match=r"mask must be a boolean tensor.*got torch\.int64\."):
        call(torch.ones(2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"mask must be a boolean tensor.*got list\."):
        call([True, False])
    with pytest.raises(ValueError, match=r"mask must have .* as its shape, got \(3,\)\."):
        call(torch.ones(3, dtype=torch.bool))


def test_divergences_take_no_mask_of_classes() -> None:
    classes = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"mask must have \(2,\) or a leading part.*got \(2, 3\)"):
        entropy(torch.zeros(2, 3), mask=classes)
