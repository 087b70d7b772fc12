"""Closed forms of divergences.

Where the range of the inputs rules out that a mask or a clamp of the plain function does anything,
it is left out: on the CPU it would cost more than the formula itself.
"""

from typing import Literal

import torch
from torch import Tensor

from penaltyscope._fused._form import (
    Form,
    Mask,
    Parts,
    Sketch,
    View,
    above,
    entries,
    near,
    total,
)
from penaltyscope._fused._log_mean import log_mean
from penaltyscope._fused._program import Draft
from penaltyscope.penalties._arguments import choice
from penaltyscope.penalties._divergences import _LARGEST_LOG_RATIO, _NEGLIGIBLE_PROBABILITY
from penaltyscope.penalties._reduction import PositionReduction, check_position_reduction

# A logarithm below it belongs to a probability of exactly 0 in every precision, and makes
# log-ratios that exceed the largest against every probability that counts.
_LOWEST_LOG = -1000.0
_LIKELY_LOG = -23.0  # exp of it exceeds the negligible probability


def kl_divergence(
    f: Sketch,
    p: int,
    q: int,
    *,
    reduction: PositionReduction = "mean",
    direction: Literal["forward", "reverse"] = "forward",
    symmetric: bool = False,
    mask: Mask = None,
) -> Form:
    """``Σ p r`` with ``r = log p - log q``, and the gradients ``p(r + 1)`` and ``-p``."""
    choice("direction", direction, ("forward", "reverse"))
    if symmetric:
        return symmetric_kl(f, p, q, reduction, mask)
    check_position_reduction(reduction)
    if direction == "reverse":
        p, q = q, p
    own, other = View(p, mask), View(q, mask)
    return Form(
        {p: ((1.0, own_slope(f, own, other)),), q: ((-1.0, moving(f, own, other)),)},
        _divergence(f, 1.0, own, other),
        "position",
        reduction,
    )


def symmetric_kl(f: Sketch, p: int, q: int, reduction: PositionReduction, mask: Mask) -> Form:
    """The mean of both directions."""
    check_position_reduction(reduction)
    own, other = View(p, mask), View(q, mask)
    return Form(
        # One field for both parts, because they nearly cancel.
        {
            p: ((0.5, f(torch.sub, own_slope(f, own, other), moving(f, other, own))),),
            q: ((0.5, f(torch.sub, own_slope(f, other, own), moving(f, own, other))),),
        },
        _divergence(f, 0.5, own, other) + _divergence(f, 0.5, other, own),
        "position",
        reduction,
    )


def js_divergence(
    f: Sketch, p: int, q: int, *, reduction: PositionReduction = "mean", mask: Mask = None
) -> Form:
    """``½Σ p log(p/m) + ½Σ q log(q/m)``, with the gradients ``½p log(p/m)``, ``½q log(q/m)``."""
    check_position_reduction(reduction)
    own, other = View(p, mask), View(q, mask)
    return Form(
        {p: ((0.5, _js_slope(f, own, other)),), q: ((0.5, _js_slope(f, other, own)),)},
        ((0.5, total(f, _js_part(f, own, other))), (0.5, total(f, _js_part(f, other, own)))),
        "position",
        reduction,
    )


def mass(f: Draft, view: View) -> int:
    """``p``."""
    return f(torch.exp, entries(f, view))


def likely(f: Sketch, view: View) -> int:
    """``p``, or 0 where it is negligible."""
    p = mass(f, view)
    if f.ask(above, view, _LIKELY_LOG):
        return p
    return f(torch.threshold, p, constants=(_NEGLIGIBLE_PROBABILITY, 0.0))


def logs(f: Sketch, view: View) -> int:
    """``log p``, finite also where p is 0: what that is multiplied with is 0."""
    return finite(f, entries(f, view), sure=f.ask(above, view, _LOWEST_LOG))


def finite(f: Draft, log: int, *, sure: bool) -> int:
    """Logarithms, finite also where they are -inf, unless none surely is."""
    return log if sure else f(torch.clamp, log, constants=(_LOWEST_LOG,))


def own_slope(f: Sketch, p: View, q: View) -> int:
    """``d KL(P‖Q) / d log p``."""
    return f(torch.add, _weighted_ratio(f, p, q), moving(f, p, q))


def moving(f: Sketch, p: View, q: View) -> int:
    """``p`` where the log-ratio is not clamped; ``-d KL(P‖Q) / d log q``."""
    if f.ask(near, p, q, _LARGEST_LOG_RATIO):
        return likely(f, p)
    return f(_unclamped, likely(f, p), _ratio(f, p, q))


def _divergence(f: Sketch, coefficient: float, p: View, q: View) -> Parts:
    return ((coefficient, total(f, _weighted_ratio(f, p, q))),)


def _weighted_ratio(f: Sketch, p: View, q: View) -> int:
    """``p (log p - log q)``."""
    ratio = _ratio(f, p, q)
    if not f.ask(near, p, q, _LARGEST_LOG_RATIO):
        ratio = f(torch.clamp, ratio, constants=(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))
    return f(torch.mul, likely(f, p), ratio)


def _ratio(f: Sketch, p: View, q: View) -> int:
    return f(torch.sub, logs(f, p), logs(f, q))


def _unclamped(p: Tensor, ratio: Tensor) -> Tensor:
    return torch.where(ratio.abs() <= _LARGEST_LOG_RATIO, p, 0.0)


def _js_part(f: Sketch, p: View, q: View) -> int:
    """``p (log p - log m)``."""
    return f(torch.mul, f(torch.sub, logs(f, p), _mixture_log(f, p, q)), likely(f, p))


def _js_slope(f: Sketch, p: View, q: View) -> int:
    """``d (KL(P‖M) + KL(Q‖M)) / d log p``; what reaches p through M cancels where all counts."""
    part = _js_part(f, p, q)
    if _all_likely(f, p, q):
        return part
    counted = f(torch.add, *sorted((likely(f, p), likely(f, q))))
    through = f(torch.div, f(torch.mul, mass(f, p), counted), _mixture(f, p, q))
    return f(_less_half, f(torch.add, part, likely(f, p)), through)


def _mixture_log(f: Sketch, p: View, q: View) -> int:
    """``log m``."""
    if not f.in_graph or not _all_likely(f, p, q):
        return f(torch.log, _mixture(f, p, q))
    p, q = sorted((p, q), key=lambda view: view.tensor)
    return f(log_mean, mass(f, p), mass(f, q), entries(f, p), entries(f, q))


def _mixture(f: Sketch, p: View, q: View) -> int:
    """``m = (p + q) / 2``, not below half of what is negligible."""
    m = f(torch.lerp, *sorted((mass(f, p), mass(f, q))), constants=(0.5,))
    if _all_likely(f, p, q):
        return m
    return f(torch.clamp, m, constants=(0.5 * _NEGLIGIBLE_PROBABILITY,))


def _all_likely(f: Sketch, p: View, q: View) -> bool:
    return f.ask(above, p, _LIKELY_LOG) and f.ask(above, q, _LIKELY_LOG)


def _less_half(a: Tensor, b: Tensor) -> Tensor:
    return torch.sub(a, b, alpha=0.5)
