"""Schedules: functions from a step, counted from 0, to a term's weight.

A schedule is any ``Callable[[int], float]``. Those made here are immutable, compare by value,
pickle, and depend on the step alone: a resumed run that restores its step restores its weights. The
one exception is ``AdaptiveKL``, which follows a measurement; it has a ``state_dict``.
"""

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

Schedule: TypeAlias = Callable[[int], float]


def constant(weight: float) -> Schedule:
    """The same weight at every step."""
    return _Constant(_finite("weight", weight))


def linear(start: float, end: float, *, steps: int) -> Schedule:
    """A straight line from ``start`` at step 0 to ``end`` at step ``steps - 1``; then ``end``."""
    return _Linear(_finite("start", start), _finite("end", end), _count("steps", steps))


def warmup(weight: float, *, steps: int) -> Schedule:
    """A straight line from 0 at step 0 to ``weight`` at step ``steps``; then ``weight``."""
    return _Warmup(_finite("weight", weight), _count("steps", steps))


def decay(weight: float, *, rate: float) -> Schedule:
    """``weight * rate ** step``; with a ``rate`` above 1 it grows to the largest float64."""
    return _Decay(_finite("weight", weight), _positive("rate", rate))


def cosine(start: float, end: float, *, steps: int) -> Schedule:
    """Half a cosine from ``start`` at step 0 to ``end`` at step ``steps - 1``; then ``end``.

    Reference:
        Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    return _Cosine(_finite("start", start), _finite("end", end), _count("steps", steps))


def piecewise(weights: Mapping[int, float]) -> Schedule:
    """The weight of the last key that is not after the step; ``{0: 1.0, 500: 0.1}``.

    Args:
        weights: From a step to the weight that holds from then on. Step 0 must be among them.
    """
    ordered = sorted((_count("step", step), _finite("weight", w)) for step, w in weights.items())
    if not ordered or ordered[0][0] != 0:
        raise ValueError(f"weights must have a weight for step 0, got {dict(weights)}.")
    return _Piecewise(tuple(step for step, _ in ordered), tuple(weight for _, weight in ordered))


def cyclic(low: float, high: float, *, period: int, ramp: float = 0.5) -> Schedule:
    """Again and again from ``low`` to ``high`` in a straight line, then at ``high``.

    Args:
        low: At the start of every period.
        high: From the end of the ramp to the end of the period.
        period: Steps in a cycle, at least 1.
        ramp: Share of the period that rises, above 0 and at most 1.

    Reference:
        Fu et al., "Cyclical annealing schedule: a simple approach to mitigating KL vanishing",
        2019.
    """
    if period < 1:
        raise ValueError(f"period must be at least 1, got {period}.")
    if not 0 < ramp <= 1:
        raise ValueError(f"ramp must be above 0 and at most 1, got {ramp}.")
    return _Cyclic(_finite("low", low), _finite("high", high), period, float(ramp))


def after(start: int, then: float | Schedule) -> Schedule:
    """Weight 0 before step ``start``, then ``then``, for which ``start`` is step 0."""
    if not callable(then):
        then = constant(then)
    return _After(_count("start", start), then)


class AdaptiveKL:
    """A weight that steers a measured divergence to a target, by a proportional controller.

    ``update`` multiplies the weight by ``1 + gain * e``, where ``e`` is the relative error
    ``kl / target - 1`` cut to ±0.2. As a schedule it returns the weight, whatever the step. The
    fixed controller beside it is ``constant``.

    Reference:
        Ziegler et al., "Fine-tuning language models from human preferences", 2019, section 2.2.
    """

    def __init__(self, weight: float, *, target: float, gain: float = 0.1) -> None:
        """Start at a positive ``weight``; a ``gain`` below 5 keeps it positive."""
        self.weight = _positive("weight", weight)
        self.target = _positive("target", target)
        self.gain = _positive("gain", gain)
        if self.gain >= 1 / _LARGEST_ERROR:
            raise ValueError(f"gain must be below {1 / _LARGEST_ERROR:g}, got {gain}.")

    def __call__(self, step: int) -> float:  # noqa: ARG002 - the signature of a schedule
        """Return the weight as of the last update."""
        return self.weight

    def update(self, kl: float) -> None:
        """Adjust the weight to a measured divergence; one that is not finite changes nothing."""
        kl = float(kl)
        if math.isfinite(kl):
            error = min(max(kl / self.target - 1, -_LARGEST_ERROR), _LARGEST_ERROR)
            weight = self.weight * (1 + self.gain * error)
            # A divergence that never answers must not drive the weight out of float64.
            self.weight = min(max(weight, _SMALLEST_WEIGHT), _LARGEST_WEIGHT)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint has to keep: the weight."""
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self.weight = _positive("weight", state["weight"])

    def __repr__(self) -> str:
        """Show the arguments that make this controller as it is now."""
        return f"AdaptiveKL({self.weight}, target={self.target}, gain={self.gain})"


_LARGEST_ERROR = 0.2
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-30, 1e30


@dataclass(frozen=True, slots=True, repr=False)
class _Named:
    """Shows a schedule under the name of the function that makes it."""

    def __repr__(self) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"{type(self).__name__.removeprefix('_').lower()}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, repr=False)
class _Constant(_Named):
    weight: float

    def __call__(self, step: int) -> float:  # noqa: ARG002 - the signature of a schedule
        return self.weight


@dataclass(frozen=True, slots=True, repr=False)
class _Linear(_Named):
    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        progress = step / max(self.steps - 1, 1)
        return self.end if progress >= 1 else self.start + (self.end - self.start) * progress


@dataclass(frozen=True, slots=True, repr=False)
class _Warmup(_Named):
    weight: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.weight if step >= self.steps else self.weight * step / self.steps


@dataclass(frozen=True, slots=True, repr=False)
class _Decay(_Named):
    weight: float
    rate: float

    def __call__(self, step: int) -> float:
        try:
            weight = self.weight * self.rate**step
        except OverflowError:
            weight = math.copysign(math.inf, self.weight)
        # A weight is finite: infinity times a penalty of 0 is NaN.
        return min(max(weight, -sys.float_info.max), sys.float_info.max)


@dataclass(frozen=True, slots=True, repr=False)
class _Cosine(_Named):
    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        progress = step / max(self.steps - 1, 1)
        if progress >= 1:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, slots=True, repr=False)
class _Piecewise(_Named):
    steps: tuple[int, ...]
    weights: tuple[float, ...]

    def __call__(self, step: int) -> float:
        return self.weights[bisect_right(self.steps, step) - 1]


@dataclass(frozen=True, slots=True, repr=False)
class _Cyclic(_Named):
    low: float
    high: float
    period: int
    ramp: float

    def __call__(self, step: int) -> float:
        progress = (step % self.period) / (self.period * self.ramp)
        return self.high if progress >= 1 else self.low + (self.high - self.low) * progress


@dataclass(frozen=True, slots=True, repr=False)
class _After(_Named):
    start: int
    then: Schedule

    def __call__(self, step: int) -> float:
        return self.then(step - self.start) if step >= self.start else 0.0


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}.")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    return float(value)


def _count(name: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}.")
    return value
