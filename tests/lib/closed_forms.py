"""Every penalty once more: value and gradients from formulas on paper, in float64 NumPy.

Nothing here differentiates automatically or calls the library, so that agreement means something.
Each function returns the value and the gradients of its sum with respect to each tensor.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Answer: TypeAlias = tuple[Array, list[Array]]


def l1(x: Array, *, scale: float = 1.0, reduction: str = "sum") -> Answer:
    k = _factor(reduction, x.size) * scale
    return k * np.abs(x).sum(), [k * np.sign(x)]


def l2(
    x: Array,
    *,
    scale: float = 1.0,
    reduction: str = "sum",
    center: str | float | None = None,
    clip: float | None = None,
) -> Answer:
    k = _factor(reduction, x.size) * scale
    z = x - (0.0 if center is None else x.mean() if center == "mean" else float(center))
    passes = np.ones_like(z) if clip is None else (np.abs(z) <= clip).astype(float)
    z = z if clip is None else np.clip(z, -clip, clip)
    slope = 2 * k * z * passes
    with np.errstate(over="ignore"):
        return k * (z * z).sum(), [slope - (slope.mean() if center == "mean" else 0.0)]


def elastic_net(
    x: Array, *, scale: float = 1.0, l1_ratio: float = 0.5, reduction: str = "sum"
) -> Answer:
    one, (one_slope,) = l1(x, scale=scale * l1_ratio, reduction=reduction)
    two, (two_slope,) = l2(x, scale=scale * (1 - l1_ratio), reduction=reduction)
    return one + two, [one_slope + two_slope]


def output_magnitude_penalty(x: Array, *, target: float = 1.0, reduction: str = "mean") -> Answer:
    n = x.size if reduction == "mean" else 1
    size = math.sqrt((x * x).sum() / n)
    slope = np.zeros_like(x) if size == 0 else 2 * (size - target) * x / (size * n)
    return np.asarray((size - target) ** 2), [slope]


def kl_divergence(
    p_log: Array,
    q_log: Array,
    *,
    reduction: str = "mean",
    direction: str = "forward",
    symmetric: bool = False,
) -> Answer:
    p_log, q_log = np.broadcast_arrays(p_log, q_log)
    k = _factor(reduction, p_log[..., 0].size)
    forward = _one_way(p_log, q_log)
    value, q_slope, p_slope = _one_way(q_log, p_log)
    backward = (value, p_slope, q_slope)
    ways = [forward, backward] if symmetric else [backward if direction == "reverse" else forward]
    value, p_slope, q_slope = (np.mean(parts, axis=0) for parts in zip(*ways, strict=True))
    return _reduced(value, reduction, k), [k * p_slope, k * q_slope]


def _one_way(p_log: Array, q_log: Array) -> tuple[Array, Array, Array]:
    p = np.exp(p_log)
    counts = p > 1e-10
    with np.errstate(invalid="ignore"):
        difference = np.where(counts, p_log - q_log, 0.0)
    ratio = np.clip(difference, -100, 100)
    moves = counts & (np.abs(difference) <= 100)
    return (p * ratio).sum(-1), p * ratio + p * moves, -p * moves


def js_divergence(p_log: Array, q_log: Array, *, reduction: str = "mean") -> Answer:
    p, q = np.exp(p_log), np.exp(q_log)
    k = _factor(reduction, p[..., 0].size)
    p_counts, q_counts = p > 1e-10, q > 1e-10
    mixture = np.maximum((p + q) / 2, 1e-300)
    with np.errstate(invalid="ignore"):
        p_ratio = np.where(p_counts, p_log - np.log(mixture), 0.0)
        q_ratio = np.where(q_counts, q_log - np.log(mixture), 0.0)
    through_mixture = (p * p_counts + q * q_counts) / (2 * mixture)
    slopes = [
        k * 0.5 * (own * ratio + own * counts - own * through_mixture)
        for own, ratio, counts in ((p, p_ratio, p_counts), (q, q_ratio, q_counts))
    ]
    return _reduced(0.5 * (p * p_ratio + q * q_ratio).sum(-1), reduction, k), slopes


def entropy(
    log_p: Array,
    *,
    mode: str = "bonus",
    reduction: str = "mean",
    normalize: bool = False,
    temperature: float = 1.0,
) -> Answer:
    classes = log_p.shape[-1]
    k = _factor(reduction, log_p[..., 0].size) * (1.0 if mode == "bonus" else -1.0)
    if normalize:
        k = k / math.log(classes) if classes > 1 else 0.0
    if temperature != 1.0:
        log_p = log_p / temperature
        log_p = log_p - log_p.max(-1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    p = np.exp(log_p)
    counts = log_p > -50
    information = -np.where(counts, log_p, 0.0)
    slope = p * information - p * counts
    if temperature != 1.0:
        slope = (slope - p * slope.sum(-1, keepdims=True)) / temperature
    return _reduced((p * information).sum(-1), reduction, k), [k * slope]


def orthogonality(
    x: Array, *, mode: str = "soft", normalize: bool = True, axis: str = "rows"
) -> Answer:
    rows, back = _as_rows(x, axis)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    safe = np.where(lengths == 0, 1.0, lengths)
    y = rows / safe if normalize else rows
    gram, n = y @ y.T, len(y)
    off = gram - np.diag(np.diag(gram))
    if mode == "hard":
        off = gram - np.eye(n)
    value, slope = (off * off).sum(), 4 * off @ y
    if mode == "spectral":
        excess = np.trace(gram) - n
        value, slope = value + excess**2, slope + 4 * excess * y
    if normalize:
        slope = np.where(lengths == 0, 0.0, slope - (slope * y).sum(-1, keepdims=True) * y) / safe
    return np.asarray(value), [back(slope)]


def _as_rows(x: Array, axis: str) -> tuple[Array, Callable[[Array], Array]]:
    if axis == "sequence" and x.ndim == 3:
        turned = x.transpose(1, 0, 2)
        return turned.reshape(x.shape[1], -1), lambda slope: slope.reshape(turned.shape).transpose(
            1, 0, 2
        )
    flat = x.reshape(-1, x.shape[-1])
    if axis == "vocabulary" and x.ndim in (2, 3):
        return flat.T, lambda slope: slope.T.reshape(x.shape)
    return flat, lambda slope: slope.reshape(x.shape)


def consistency(a: Array, b: Array, *, metric: str = "mse", reduction: str = "mean") -> Answer:
    if metric == "kl":
        return kl_divergence(a, b, reduction=reduction, symmetric=True)
    if metric == "cosine":
        return _cosine(a, b)
    d = a - b
    k = _factor(reduction, d.size)
    value, slope = (d * d, 2 * d) if metric == "mse" else (np.abs(d), np.sign(d))
    missing = tuple(range(d.ndim - b.ndim))
    return _reduced(value, reduction, k), [k * slope, -k * slope.sum(missing)]


def _cosine(a: Array, b: Array) -> Answer:
    # Scaled first: the square of a length may not fit where the length does.
    a_scale, b_scale = np.abs(a).max() or 1.0, np.abs(b).max() or 1.0
    a, b = a / a_scale, b / b_scale
    a_length, b_length = np.linalg.norm(a) or 1.0, np.linalg.norm(b) or 1.0
    u, v = a / a_length, b / b_length
    cosine = (u * v).sum()
    slopes = [(cosine * u - v) / a_length / a_scale, (cosine * v - u) / b_length / b_scale]
    return np.asarray(1 - cosine), [s * bool(w.any()) for s, w in zip(slopes, (a, b), strict=True)]


def _factor(reduction: str, count: int) -> float:
    return 1 / count if reduction == "mean" else 1.0


def _reduced(values: Array, reduction: str, factor: float) -> Array:
    return factor * values if reduction == "none" else np.asarray(factor * values.sum())
