"""Closed forms of entropy, with and without a temperature."""

import math
from typing import Literal

import torch
from torch import Tensor

from penaltyscope._fused._divergences import finite, logs, mass
from penaltyscope._fused._form import (
    Form,
    Mask,
    Sketch,
    View,
    above,
    between,
    columns,
    entries,
    kept,
    near,
    total,
)
from penaltyscope.penalties._arguments import choice, positive
from penaltyscope.penalties._divergences import _NEGLIGIBLE_LOG_PROBABILITY
from penaltyscope.penalties._reduction import PositionReduction, check_position_reduction

_ROOT = 2.0
"""The temperature at which exponentials are roots of those without one."""
_NORMAL = 80.0
"""Exponentials of what is nearer to 0 have all their digits."""

_A_LOOP = 16


def entropy(
    f: Sketch,
    x: int,
    *,
    mode: Literal["bonus", "penalty"] = "bonus",
    reduction: PositionReduction = "mean",
    normalize: bool = False,
    temperature: float = 1.0,
    mask: Mask = None,
) -> Form:
    """``Σ p log p``, with the gradient ``p(log p + 1)``."""
    choice("mode", mode, ("bonus", "penalty"))
    check_position_reduction(reduction)
    positive("temperature", temperature)
    factor = -1.0 if mode == "bonus" else 1.0
    classes = f.ask(columns, x)
    if normalize:
        factor *= 1.0 / math.log(classes) if classes > 1 else 0.0
    view = View(x, mask)
    if temperature == 1.0:
        p = _counted(f, mass(f, view), sure=f.ask(above, view, _NEGLIGIBLE_LOG_PROBABILITY))
        information = f(torch.mul, p, logs(f, view))
        slope = f(torch.add, information, p)
        value = total(f, information)
    else:
        value, slope = _tempered(f, view, temperature, classes)
    return Form({x: ((factor / temperature, slope),)}, ((factor, value),), "position", reduction)


def _tempered(f: Sketch, view: View, temperature: float, classes: int) -> tuple[int, int]:
    """``Σ π z`` and ``π(z - Σ π z)``, z being the logarithm of ``π = softmax(x / T)``."""
    # No z is below -(range of x)/T - log V.
    reach = (-_NEGLIGIBLE_LOG_PROBABILITY - math.log(classes)) * temperature
    sure = f.ask(near, view, view, reach)
    if sure and f.in_graph and temperature == _ROOT and f.ask(between, view, -_NORMAL, _NORMAL):
        return _by_roots(f, view)
    z = f(_log_softmax, entries(f, view), constants=(temperature,))
    pi = f(torch.exp, z)
    p = _counted(f, pi, sure=sure)
    information = f(torch.mul, p, finite(f, z, sure=sure))
    each = f(_row_sum, information)
    # Dropped positions hold a uniform distribution.
    value = total(f, kept(f, view, each))
    if sure:
        return value, f(torch.mul, f(torch.sub, z, each), pi)
    slope = f(torch.add, information, p)
    return value, f(torch.sub, slope, f(torch.mul, pi, f(_row_sum, slope)))


def _by_roots(f: Sketch, view: View) -> tuple[int, int]:
    """The same at a temperature of 2, where every element counts.

    With ``u = √exp x``, ``y = x - max x`` and the mean ``m = Σuy / Σu`` the slope is
    ``u(y - m) / (2 Σu)``. A root is no less precise than an exponential, and others need exp(x).
    """
    u = f(torch.sqrt, mass(f, view))
    top = f(_row_max, entries(f, view))
    y = f(torch.sub, entries(f, view), top)
    whole = f(_row_sum, u)
    mean = f(_stored, f(torch.div, f(_row_sum, f(torch.mul, u, y)), whole))
    value = total(f, kept(f, view, f(_information, mean, whole, top)))
    part = f(torch.mul, u, f(_stored, f(_half_inverse, whole)))
    return value, f(torch.mul, f(torch.sub, y, mean), part)


def _counted(f: Sketch, p: int, *, sure: bool) -> int:
    """``p``, or 0 where its logarithm is taken for that of 0, unless that surely is nowhere."""
    return (
        p if sure else f(torch.threshold, p, constants=(math.exp(_NEGLIGIBLE_LOG_PROBABILITY), 0.0))
    )


def _information(mean: Tensor, whole: Tensor, top: Tensor) -> Tensor:
    # Of u without its largest possible element: nothing cancels.
    return 0.5 * mean - (whole * (top * -0.5).exp()).log()


def _half_inverse(whole: Tensor) -> Tensor:
    return 0.5 / whole


def _stored(x: Tensor) -> Tensor:
    # A compiler keeps in memory what is the outcome of a loop, and computes other numbers of a row
    # once more for every few of its elements. It takes shorter loops apart.
    return x.expand(-1, _A_LOOP).amax(-1, keepdim=True)


def _row_max(x: Tensor) -> Tensor:
    return x.amax(-1, keepdim=True)


def _log_softmax(x: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(x / temperature, -1)


def _row_sum(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)
