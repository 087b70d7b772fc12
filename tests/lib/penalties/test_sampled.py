import math
from typing import Literal, TypeAlias

import pytest
import torch
from torch import Tensor

from penaltyscope.penalties import kl_divergence, sampled_kl

Estimator: TypeAlias = Literal["k1", "k2", "k3"]

P_PROBABILITIES = (0.5, 0.3, 0.2)
R_PROBABILITIES = (0.2, 0.3, 0.5)


def distributions() -> tuple[Tensor, Tensor]:
    logits = torch.tensor(P_PROBABILITIES, dtype=torch.float64).log().requires_grad_()
    return logits, torch.tensor(R_PROBABILITIES, dtype=torch.float64).log()


def expectation(estimator: Estimator) -> tuple[Tensor, Tensor]:
    """Exact mean over all samples of the estimate, and of its gradient with respect to logits."""
    logits, r_log = distributions()
    p_log = torch.log_softmax(logits, -1)
    probability = p_log.detach().exp()
    estimates = sampled_kl(p_log, r_log, estimator=estimator, reduction="none")
    mean = (probability * estimates).sum()
    (gradient,) = torch.autograd.grad(mean, logits)
    return mean.detach(), gradient


def exact(*, reverse: bool) -> tuple[Tensor, Tensor]:
    logits, r_log = distributions()
    p_log = torch.log_softmax(logits, -1)
    value = kl_divergence(p_log, r_log, direction="reverse" if reverse else "forward")
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@pytest.mark.parametrize(
    ("estimator", "want"),
    [("k1", -0.3), ("k2", 0.045), ("k3", math.exp(0.3) - 1 - 0.3)],
)
def test_values_by_hand(estimator: Estimator, want: float) -> None:
    p_log, r_log = torch.tensor([-1.3, -1.0], dtype=torch.float64).split(1)
    assert sampled_kl(p_log, r_log, estimator=estimator).item() == pytest.approx(want, rel=1e-13)


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    want, _ = exact(reverse=False)
    torch.testing.assert_close(expectation("k1")[0], want)
    torch.testing.assert_close(expectation("k3")[0], want)
    assert abs(expectation("k2")[0] - want) > 0.01


def test_k1_trains_nothing() -> None:
    torch.testing.assert_close(expectation("k1")[1], torch.zeros(3, dtype=torch.float64))


def test_k2_has_the_gradient_of_the_divergence() -> None:
    torch.testing.assert_close(expectation("k2")[1], exact(reverse=False)[1])


def test_k3_has_the_gradient_of_the_other_direction() -> None:
    torch.testing.assert_close(expectation("k3")[1], exact(reverse=True)[1])
    assert not torch.allclose(expectation("k3")[1], exact(reverse=False)[1], rtol=0.1)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_k2_and_k3_are_never_negative(estimator: Estimator) -> None:
    d = torch.linspace(-50, 50, 101)
    values = sampled_kl(d, torch.zeros(101), estimator=estimator, reduction="none")
    assert (values >= 0).all()
    assert values[50] == 0


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("reference", [-math.inf, -300.0, 300.0])
def test_extreme_ratios_stay_finite(estimator: Estimator, reference: float) -> None:
    p_log = torch.tensor([-1.0], requires_grad=True)
    value = sampled_kl(p_log, torch.tensor([reference]), estimator=estimator)
    value.backward()
    assert value.isfinite()
    assert p_log.grad is not None
    assert p_log.grad.isfinite().all()


def test_a_nan_is_not_hidden() -> None:
    assert sampled_kl(torch.tensor([math.nan]), torch.tensor([-1.0])).isnan()


def test_no_samples_are_a_sum_over_nothing() -> None:
    assert sampled_kl(torch.zeros(0), torch.zeros(0)).item() == 0.0


def test_arguments_are_checked() -> None:
    one = torch.zeros(2)
    with pytest.raises(ValueError, match="estimator must be one of 'k1', 'k2', 'k3', got 'k4'"):
        sampled_kl(one, one, estimator="k4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"logprobs and reference_logprobs.*\(2,\) and \(3,\)"):
        sampled_kl(one, torch.zeros(3))
