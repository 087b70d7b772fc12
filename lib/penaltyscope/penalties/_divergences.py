"""Kullback-Leibler and Jensen-Shannon divergence, and entropy, of log-probabilities.

All take log-probabilities ``[..., V]``: the last dimension is classes, the others are positions.
-inf is an ordinary log-probability: values and gradients stay finite. Half precision is
accumulated, and returned, in float32. ``mask`` keeps positions: boolean, true where kept, its shape
that of the positions or a leading part of it.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from penaltyscope.penalties._arguments import choice, floating, positive, same_shape
from penaltyscope.penalties._reduction import (
    PositionReduction,
    check_mask,
    check_position_reduction,
    dropped,
    reduced,
)

# A class this improbable counts 0, as 0 log 0 does.
_NEGLIGIBLE_PROBABILITY = 1e-10
_NEGLIGIBLE_LOG_PROBABILITY = -50.0
# The log-ratio stops here instead of being infinite where only one distribution has mass.
_LARGEST_LOG_RATIO = 100.0


def kl_divergence(
    p_logprobs: Tensor,
    q_logprobs: Tensor,
    *,
    reduction: PositionReduction = "mean",
    direction: Literal["forward", "reverse"] = "forward",
    symmetric: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """``KL(P‖Q) = Σ p (log p - log q)`` in nats.

    A class whose p is at most 1e-10 counts 0, and ``log p - log q`` stops at ±100.

    Args:
        p_logprobs: ``[..., V]``.
        q_logprobs: ``[..., V]``. One of the two may lack leading dimensions.
        reduction: Over all positions; ``"none"`` gives ``[...]``.
        direction: ``"reverse"`` is ``KL(Q‖P)``.
        symmetric: The mean of both directions; overrides ``direction``.
        mask: True where a position counts.

    Returns:
        At least 0 for normalised inputs, up to rounding.

    Reference:
        Kullback and Leibler, "On information and sufficiency", 1951.
    """
    check_position_reduction(reduction)
    choice("direction", direction, ("forward", "reverse"))
    p_log, q_log = _pair(("p_logprobs", "q_logprobs"), p_logprobs, q_logprobs, mask)
    if symmetric:
        return reduced(_both_directions(p_log, q_log), reduction, mask, 0.5)
    if direction == "reverse":
        p_log, q_log = q_log, p_log
    p = p_log.exp()
    return reduced((p * _where_likely(p, _log_ratio(p_log, q_log))).sum(-1), reduction, mask)


def js_divergence(
    p_logprobs: Tensor,
    q_logprobs: Tensor,
    *,
    reduction: PositionReduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    """``JS(P, Q) = ½ KL(P‖M) + ½ KL(Q‖M)`` with ``M = (P + Q) / 2``, in nats.

    In each half, a class whose p (or q) is at most 1e-10 counts 0.

    Args:
        p_logprobs: ``[..., V]``.
        q_logprobs: ``[..., V]``. One of the two may lack leading dimensions.
        reduction: Over all positions; ``"none"`` gives ``[...]``.
        mask: True where a position counts.

    Returns:
        Between 0 and log 2 per position for normalised inputs, up to rounding.

    Reference:
        Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    check_position_reduction(reduction)
    p_log, q_log = _pair(("p_logprobs", "q_logprobs"), p_logprobs, q_logprobs, mask)
    p, q = p_log.exp(), q_log.exp()
    # Only what counts 0 twice meets the floor; without it log 0 would put 0 / 0 into the gradient.
    mixture_log = ((p + q) * 0.5).clamp(min=0.5 * _NEGLIGIBLE_PROBABILITY).log()
    halves = p * _where_likely(p, p_log - mixture_log) + q * _where_likely(q, q_log - mixture_log)
    return reduced(halves.sum(-1), reduction, mask, 0.5)


def entropy(
    logprobs: Tensor,
    *,
    mode: Literal["bonus", "penalty"] = "bonus",
    reduction: PositionReduction = "mean",
    normalize: bool = False,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Shannon entropy ``H = -Σ p log p`` in nats; log-probabilities of at most -50 count 0.

    Args:
        logprobs: ``[..., V]``.
        mode: ``"bonus"`` is ``+H``, ``"penalty"`` is ``-H``.
        reduction: Over all positions; ``"none"`` gives ``[...]``.
        normalize: Divide by ``log V``: the uniform distribution has 1, a single class has 0.
        temperature: Other than 1, the entropy of ``softmax(logprobs / temperature)``; a position
            without any class that is possible has none, and gives NaN.
        mask: True where a position counts.

    Returns:
        ``H`` is between 0 and ``log V`` (or 1) per position for normalised inputs.

    Reference:
        Pereyra et al., "Regularizing neural networks by penalizing confident output
        distributions", 2017.
    """
    choice("mode", mode, ("bonus", "penalty"))
    check_position_reduction(reduction)
    positive("temperature", temperature)
    log_p = _positions("logprobs", floating("logprobs", logprobs), mask)
    factor = -1.0 if mode == "bonus" else 1.0
    if normalize:
        factor *= _inverse_log(log_p.shape[-1])
    if temperature != 1.0:
        log_p = torch.log_softmax(log_p / temperature, -1)
    # exp(-inf) * -inf is NaN, and so is its gradient: with the logarithm masked it is 0 * 0.
    finite = log_p.masked_fill(log_p <= _NEGLIGIBLE_LOG_PROBABILITY, 0.0)
    values = (log_p.exp() * finite).sum(-1)
    if temperature != 1.0:
        # The softmax made the zeros of dropped positions a uniform distribution.
        values = dropped(values, mask)
    return reduced(values, reduction, mask, factor)


def symmetric_kl(
    names: tuple[str, str], a: Tensor, b: Tensor, reduction: str, mask: Tensor | None
) -> Tensor:
    """The mean of ``KL(A‖B)`` and ``KL(B‖A)``, for arguments that have other ``names``."""
    return reduced(_both_directions(*_pair(names, a, b, mask)), reduction, mask, 0.5)


def _both_directions(p_log: Tensor, q_log: Tensor) -> Tensor:
    p, q = p_log.exp(), q_log.exp()
    ratio = _log_ratio(p_log, q_log)
    return (p * _where_likely(p, ratio) - q * _where_likely(q, ratio)).sum(-1)


def _log_ratio(p_log: Tensor, q_log: Tensor) -> Tensor:
    return (p_log - q_log).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)


def _where_likely(probability: Tensor, ratio: Tensor) -> Tensor:
    # Masking this one factor is enough: -inf - -inf is NaN, but the product is then 0 * 0, and what
    # computed the ratio gets a gradient of exactly 0. A NaN probability is not masked.
    return ratio.masked_fill(probability <= _NEGLIGIBLE_PROBABILITY, 0.0)


def _inverse_log(classes: int) -> float:
    return 1.0 / math.log(classes) if classes > 1 else 0.0


def _pair(
    names: tuple[str, str], a: Tensor, b: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    a, b = floating(names[0], a), floating(names[1], b)
    if a.shape[-1:] != b.shape[-1:]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same classes in their last dimension, "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a, b = same_shape(names, a, b)
    return _positions(names[0], a, mask), _positions(names[1], b, mask)


def _positions(name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    if x.dim() == 0:
        raise ValueError(f"{name} must have a last dimension of classes, got a 0-d tensor.")
    check_mask(mask, x.shape[:-1])
    return dropped(x, mask)
