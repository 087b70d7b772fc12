"""The logarithm of a mean, held against the logarithm itself in float64."""

import torch

from penaltyscope._fused._log_mean import log_mean

_EPSILON = torch.finfo(torch.float32).eps


def both(log_p: torch.Tensor, log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From float32 logarithms what is found, and what is right."""
    found = log_mean(log_p.exp(), log_q.exp(), log_p, log_q)
    p, q = log_p.double(), log_q.double()
    return found.double(), torch.logaddexp(p, q) - torch.tensor(2.0).double().log()


def test_it_is_the_logarithm_of_the_mean() -> None:
    logs = torch.linspace(-23.0, 5.0, 401)
    found, right = both(logs[:, None], logs[None, :])
    # Of the larger logarithm one rounding, and of the rest, which is below 0.7, a few.
    assert ((found - right).abs() <= _EPSILON * (right.abs() + 1.0)).all()


def test_what_both_have_in_common_is_not_lost() -> None:
    log_p = torch.tensor([-7.0, -7.0, -20.0])
    log_q = log_p + torch.tensor([0.0, 1e-4, -1e-3])
    found, right = both(log_p, log_q)
    assert found[0] == log_p[0]
    torch.testing.assert_close(
        log_p.double() - found, log_p.double() - right, rtol=0.0, atol=1e-3 * _EPSILON + 1e-6
    )


def test_float64_has_all_its_digits() -> None:
    p, q = torch.rand(2, 50, dtype=torch.float64) + 1e-3
    torch.testing.assert_close(
        log_mean(p, q, p.log(), q.log()), ((p + q) / 2).log(), rtol=1e-15, atol=1e-15
    )
