"""Kullback-Leibler divergence estimated from the log-probabilities of samples."""

from typing import Literal

from torch import Tensor

from penaltyscope.penalties._arguments import choice, floating, same_shape
from penaltyscope.penalties._reduction import (
    PositionReduction,
    check_mask,
    check_position_reduction,
    dropped,
    reduced,
)

# exp of it still fits float32.
_LARGEST_LOG_RATIO = 80.0


def sampled_kl(
    logprobs: Tensor,
    reference_logprobs: Tensor,
    *,
    estimator: Literal["k1", "k2", "k3"] = "k3",
    reduction: PositionReduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    """Estimate ``KL(P‖R)`` from samples of ``P``, such as the tokens that a policy generated.

    With ``d = log p - log r`` of a sample, which stops at ±80, and gradients with respect to P:

    - ``k1`` is ``d``: unbiased, but of high variance and of either sign. Its expected gradient is
      0: as a loss it trains nothing.
    - ``k2`` is ``d²/2``: biased, of low variance, never negative. Its expected gradient is that of
      ``KL(P‖R)``.
    - ``k3`` is ``exp(-d) - 1 + d``: unbiased, of low variance, never negative. Its expected
      gradient is that of the other direction, ``KL(R‖P)``. Its variance is unbounded where ``R``
      has much mass and ``P`` little.

    All of this holds for samples of the very ``P`` that is differentiated. Those of an older policy
    need importance weights.

    Args:
        logprobs: ``[...]``, the log-probability under ``P`` of what was sampled.
        reference_logprobs: ``[...]``, of the same samples under ``R``; -inf where R excludes them.
        estimator: See above; k1 or k3 to measure, k2 as a loss.
        reduction: Over all samples; ``"none"`` gives ``[...]``.
        mask: True where a sample counts: its shape is that of the samples or a leading part of it.

    Reference:
        Schulman, "Approximating KL divergence", 2020, http://joschu.net/blog/kl-approx.html;
        Tang and Munos, "On a few pitfalls in KL divergence gradient estimation for RL", 2025.
    """
    choice("estimator", estimator, ("k1", "k2", "k3"))
    check_position_reduction(reduction)
    names = ("logprobs", "reference_logprobs")
    p_log, r_log = same_shape(
        names, floating(names[0], logprobs), floating(names[1], reference_logprobs)
    )
    check_mask(mask, p_log.shape)
    d = dropped(p_log - r_log, mask).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    if estimator == "k1":
        values = d
    elif estimator == "k2":
        values = d.square() * 0.5
    else:
        values = (-d).expm1() + d
    return reduced(values, reduction, mask)
