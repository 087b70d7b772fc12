import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penaltyscope.penalties import entropy, js_divergence, kl_divergence
from tests.lib import closed_forms
from tests.lib.penalties.calls import DIVERGENCE_CALLS, Call, P, Penalty, Q
from tests.lib.penalties.strategies import log_probabilities, relaxed

LOG_2 = math.log(2.0)
OPTIONS: dict[Any, list[dict[str, Any]]] = {
    kl_divergence: [{}, {"direction": "reverse"}, {"symmetric": True}],
    js_divergence: [{}],
    entropy: [{}, {"mode": "penalty"}, {"normalize": True}, {"temperature": 0.5}],
}
every_penalty = pytest.mark.parametrize(
    ("penalty", "options"),
    [(penalty, options) for penalty, variants in OPTIONS.items() for options in variants],
    ids=lambda part: part.__name__ if callable(part) else str(part),
)


def evaluate(penalty: Penalty, *tensors: Tensor, **options: object) -> tuple[Tensor, list[Tensor]]:
    """Value, and the gradients of its sum, for as many of the tensors as the penalty takes."""
    leaves = [x.clone().requires_grad_() for x in tensors[: 1 if penalty is entropy else 2]]
    value = penalty(*leaves, **options)
    return value, list(torch.autograd.grad(value.sum(), leaves))


def distribution(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("penalty", "options", "want"),
    [
        (kl_divergence, {}, 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)),
        (kl_divergence, {"direction": "reverse"}, 0.25 * math.log(0.5) + 0.75 * math.log(1.5)),
        (
            js_divergence,
            {},
            0.5 * (0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625))
            + 0.5 * (0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)),
        ),
        (entropy, {}, LOG_2),
        (entropy, {"mode": "penalty"}, -LOG_2),
        (entropy, {"normalize": True}, 1.0),
    ],
)
def test_values_by_hand(penalty: Penalty, options: dict[str, Any], want: float) -> None:
    value, _ = evaluate(penalty, distribution(0.5, 0.5), distribution(0.25, 0.75), **options)
    assert value.item() == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    "call",
    [c for c in DIVERGENCE_CALLS if c.penalty in OPTIONS and "mask" not in c.options],
    ids=str,
)
def test_value_and_gradients_are_the_closed_forms(call: Call) -> None:
    tensors = [x.expand_as(P) for x in call.tensors]
    value, gradients = evaluate(call.penalty, *tensors, **call.options)
    formula = getattr(closed_forms, call.penalty.__name__)
    want, slopes = formula(*(x.numpy() for x in tensors), **call.options)
    np.testing.assert_allclose(value.detach().numpy(), want, rtol=1e-12, atol=1e-15)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-11, atol=1e-14)


@relaxed
@given(log_probabilities(impossible=True), log_probabilities(impossible=True))
def test_impossible_classes_leave_everything_finite_and_right(p: Tensor, q: Tensor) -> None:
    for penalty, variants in OPTIONS.items():
        for options in variants:
            value, gradients = evaluate(penalty, p, q, **options)
            formula = getattr(closed_forms, penalty.__name__)
            given_arrays = [x.numpy() for x in (p, q)[: len(gradients)]]
            want, slopes = formula(*given_arrays, **options)
            np.testing.assert_allclose(value.detach().numpy(), want, rtol=1e-9, atol=1e-12)
            for gradient, slope in zip(gradients, slopes, strict=True):
                assert gradient.isfinite().all()
                np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-8, atol=1e-11)


@every_penalty
def test_second_derivatives_are_finite_at_impossible_classes(
    penalty: Penalty, options: dict[str, Any]
) -> None:
    p = distribution(0.5, 0.5, 0.0).requires_grad_()
    q = distribution(0.5, 0.0, 0.5).requires_grad_()
    tensors = (p,) if penalty is entropy else (p, q)
    first = torch.autograd.grad(penalty(*tensors, **options), tensors, create_graph=True)
    second = torch.autograd.grad([g.square().sum() for g in first], tensors)
    assert all(g.isfinite().all() for g in (*first, *second))


@every_penalty
def test_a_nan_is_not_hidden(penalty: Penalty, options: dict[str, Any]) -> None:
    p = torch.tensor([[math.nan, -0.1], [-0.5, -1.0]])
    value, _ = evaluate(penalty, p, torch.full((2, 2), -LOG_2), **options)
    assert value.isnan()


def test_a_nan_in_the_other_distribution_is_not_hidden_either() -> None:
    q = torch.tensor([math.nan, -0.1])
    p = torch.full((2,), -LOG_2)
    for direction in ("forward", "reverse"):
        assert kl_divergence(p, q, direction=direction).isnan()
    assert js_divergence(p, q).isnan()


@pytest.mark.parametrize("options", [{}, {"direction": "reverse"}, {"symmetric": True}])
def test_disjoint_distributions_diverge_by_the_largest_log_ratio(options: dict[str, Any]) -> None:
    p, q = distribution(1.0, 0.0), distribution(0.0, 1.0)
    assert kl_divergence(p, q, **options).item() == 100.0
    assert js_divergence(p, q).item() == pytest.approx(LOG_2)


@pytest.mark.parametrize("penalty", [kl_divergence, js_divergence], ids=lambda f: f.__name__)
def test_a_class_counts_from_a_probability_of_1e_10_on(penalty: Penalty) -> None:
    p, q = distribution(1.0, 1.01e-10, 0.99e-10), distribution(0.5, 0.25, 0.25)
    value, (gradient, _) = evaluate(penalty, p, q)
    want, (slope, _) = getattr(closed_forms, penalty.__name__)(p.numpy(), q.numpy())
    assert value.item() == pytest.approx(float(want), rel=1e-14)
    np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-7, atol=1e-16)
    # The last class is no less probable by much, and yet its own half is gone.
    assert abs(gradient[2]) < 0.3 * abs(gradient[1])


def test_a_class_counts_from_a_log_probability_of_minus_50_on() -> None:
    log_p = torch.tensor([-49.99, -50.0], dtype=torch.float64)
    _, (gradient,) = evaluate(entropy, log_p)
    assert gradient[0].item() == pytest.approx(48.99 * math.exp(-49.99), rel=1e-12)
    assert gradient[1].item() == 0.0


def test_symmetric_overrides_the_direction() -> None:
    both = (kl_divergence(P, Q) + kl_divergence(Q, P)) / 2
    for direction in ("forward", "reverse"):
        got = kl_divergence(P, Q, symmetric=True, direction=direction)
        torch.testing.assert_close(got, both)


@relaxed
@given(log_probabilities(impossible=True), log_probabilities(impossible=True))
def test_divergences_are_bounded(p: Tensor, q: Tensor) -> None:
    for options in OPTIONS[kl_divergence]:
        divergence = kl_divergence(p, q, reduction="none", **options)
        assert ((divergence >= -1e-12) & (divergence <= 100.0)).all()
    shared = js_divergence(p, q, reduction="none")
    assert ((shared >= -1e-12) & (shared <= LOG_2 + 1e-12)).all()


@relaxed
@given(log_probabilities(impossible=True), log_probabilities(impossible=True))
def test_symmetric_divergences_are_symmetric(p: Tensor, q: Tensor) -> None:
    torch.testing.assert_close(js_divergence(p, q), js_divergence(q, p))
    torch.testing.assert_close(
        kl_divergence(p, q, symmetric=True), kl_divergence(q, p, symmetric=True)
    )
    torch.testing.assert_close(kl_divergence(p, q, direction="reverse"), kl_divergence(q, p))


@relaxed
@given(log_probabilities(impossible=True))
def test_a_distribution_does_not_diverge_from_itself(p: Tensor) -> None:
    for options in OPTIONS[kl_divergence]:
        assert kl_divergence(p, p, **options).item() == 0.0
    assert abs(js_divergence(p, p).item()) < 1e-15


@relaxed
@given(log_probabilities(impossible=True), st.permutations(range(4)))
def test_the_order_of_classes_does_not_matter(p: Tensor, order: list[int]) -> None:
    q = p.flip(0)
    for penalty, variants in OPTIONS.items():
        for options in variants:
            value, _ = evaluate(penalty, p, q, **options)
            shuffled, _ = evaluate(penalty, p[:, order], q[:, order], **options)
            torch.testing.assert_close(shuffled, value, rtol=1e-10, atol=1e-12)


@relaxed
@given(log_probabilities(impossible=True), st.floats(0.2, 5))
def test_entropy_is_between_none_and_that_of_the_uniform(p: Tensor, temperature: float) -> None:
    for heat in (1.0, temperature):
        value = entropy(p, reduction="none", temperature=heat)
        assert ((value >= -1e-12) & (value <= math.log(4) + 1e-12)).all()
        share = entropy(p, reduction="none", temperature=heat, normalize=True)
        torch.testing.assert_close(share * math.log(4), value)


@relaxed
@given(log_probabilities())
def test_heat_raises_the_entropy(p: Tensor) -> None:
    cold, hot = entropy(p, temperature=0.7), entropy(p, temperature=1.5)
    assert cold.item() <= hot.item() + 1e-12


@relaxed
@given(log_probabilities())
def test_penalty_and_bonus_are_opposite(p: Tensor) -> None:
    assert torch.equal(entropy(p, mode="penalty"), -entropy(p))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_single_class_has_no_normalised_entropy(temperature: float) -> None:
    value, (gradient,) = evaluate(
        entropy, torch.zeros(3, 1), normalize=True, temperature=temperature
    )
    assert (value.item(), gradient.tolist()) == (0.0, [[0.0]] * 3)


def test_the_temperature_makes_logits_and_log_probabilities_the_same() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    heated = entropy(torch.log_softmax(logits, -1), temperature=2.0)
    torch.testing.assert_close(heated, entropy(torch.log_softmax(logits / 2.0, -1)))


@every_penalty
def test_reductions_agree(penalty: Penalty, options: dict[str, Any]) -> None:
    each, _ = evaluate(penalty, P, Q, **options, reduction="none")
    assert each.shape == (3,)
    torch.testing.assert_close(evaluate(penalty, P, Q, **options)[0], each.mean())
    torch.testing.assert_close(evaluate(penalty, P, Q, **options, reduction="sum")[0], each.sum())


@every_penalty
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (2, 0, 4)])
def test_no_positions_or_no_classes_are_sums_over_nothing(
    penalty: Penalty, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    nothing = torch.zeros(shape)
    value, gradients = evaluate(penalty, nothing, nothing, **options)
    assert value.item() == 0.0
    assert all(gradient.shape == shape for gradient in gradients)


@every_penalty
def test_a_number_has_no_classes(penalty: Penalty, options: dict[str, Any]) -> None:
    number = torch.tensor(-1.0)
    with pytest.raises(ValueError, match="must have a last dimension of classes, got a 0-d tensor"):
        evaluate(penalty, number, number, **options)


@pytest.mark.parametrize("penalty", [kl_divergence, js_divergence], ids=lambda f: f.__name__)
def test_shapes_that_do_not_fit_are_refused_with_both_named(penalty: Penalty) -> None:
    with pytest.raises(ValueError, match=r"same classes.*got shapes \(2, 3\) and \(2, 1\)"):
        penalty(torch.zeros(2, 3), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"p_logprobs and q_logprobs.*got \(2, 3\) and \(4, 3\)"):
        penalty(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"same shape.*got \(1, 2, 3\) and \(2, 1, 3\)"):
        penalty(torch.zeros(1, 2, 3), torch.zeros(2, 1, 3))


def test_one_reference_serves_every_position() -> None:
    want = kl_divergence(P, Q[:1].expand_as(P))
    torch.testing.assert_close(kl_divergence(P, Q[0]), want)
    torch.testing.assert_close(kl_divergence(Q[0], P, direction="reverse"), want)


@pytest.mark.parametrize(
    ("penalty", "options", "message"),
    [
        (kl_divergence, {"direction": "sideways"}, "direction must be one of 'forward', 'reverse'"),
        (kl_divergence, {"reduction": "batchmean"}, "reduction must be one of 'mean', 'sum', 'non"),
        (js_divergence, {"reduction": "max"}, "reduction must be one of .*, got 'max'"),
        (entropy, {"mode": "maximize"}, "mode must be one of 'bonus', 'penalty', got 'maximize'"),
        (entropy, {"temperature": 0.0}, r"temperature must be positive and finite, got 0\.0\."),
        (entropy, {"temperature": -1.0}, r"temperature must be positive and finite, got -1\.0\."),
        (entropy, {"temperature": math.nan}, "temperature must be positive and finite, got nan"),
    ],
)
def test_options_are_checked(penalty: Penalty, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(penalty, P, Q, **options)
