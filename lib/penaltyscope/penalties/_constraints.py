"""Constraints on representations: rows that should be orthogonal, pairs that should agree.

Half precision is accumulated, and returned, in float32, also under autocast. ``mask`` keeps
positions: boolean, true where kept, its shape that of the positions or a leading part of it.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from penaltyscope._numerics import magnitude, unit
from penaltyscope.penalties._arguments import choice, floating, same_shape
from penaltyscope.penalties._divergences import symmetric_kl
from penaltyscope.penalties._reduction import (
    PositionReduction,
    aligned,
    check_mask,
    check_position_reduction,
    dropped,
    reduced,
)

Axis: TypeAlias = Literal["rows", "sequence", "vocabulary"]


def orthogonality(
    x: Tensor,
    *,
    mode: Literal["soft", "hard", "spectral"] = "soft",
    normalize: bool = True,
    axis: Axis = "rows",
    mask: Tensor | None = None,
) -> Tensor:
    """How far the n rows of a matrix ``Y`` are from orthogonal, by their Gram matrix ``G = Y Yᵀ``.

    ``soft`` is ``Σ_{i≠j} G_ij²``, ``hard`` is ``‖G - I‖²``, ``spectral`` is ``soft + (tr G - n)²``.
    Without a zero row, ``normalize`` makes the three the same number.

    Args:
        x: ``[..., D]``; a single dimension is a single row.
        mode: See above.
        normalize: Divide each row by its length first. A row whose squared length is 0 or overflows
            becomes zero and has zero gradient.
        axis: ``"rows"``: all positions, with D features each. ``"sequence"``, for ``[B, S, D]``:
            the S places in the sequence, with B * D features each. ``"vocabulary"``, for 2 and 3
            dimensions: the D columns, with a feature per position. For other ranks each means
            ``"rows"``.
        mask: True where a position counts. A row none of whose positions counts is dropped.

    Returns:
        A 0-d tensor, at least 0 (from n = 2d rows on, up to rounding); exactly 0 for fewer rows
        whose products are exactly 0 (or form ``I``).

    Reference:
        Bansal, Chen and Wang, "Can we gain more from orthogonality regularizations in training deep
        CNNs?", 2018.
    """
    choice("mode", mode, ("soft", "hard", "spectral"))
    choice("axis", axis, ("rows", "sequence", "vocabulary"))
    x = floating("x", x)
    if x.dim() == 0:
        raise ValueError("x must have at least one dimension, got a 0-d tensor.")
    check_mask(mask, x.shape[:-1])
    rows = _rows(dropped(x, mask), axis)
    if normalize:
        rows, _ = unit(rows)
    with _no_autocast(x.device.type):
        narrow = normalize and rows.shape[0] >= 2 * rows.shape[1]
        off_diagonal, diagonal = _narrow_gram(rows) if narrow else _gram(rows)
    if mode == "soft":
        return off_diagonal
    wanted = 1.0 if mask is None else _rows(aligned(mask, x).expand_as(x), axis).any(-1).to(x.dtype)
    excess = diagonal - wanted
    return off_diagonal + (excess.square().sum() if mode == "hard" else excess.sum().square())


def consistency(
    a: Tensor,
    b: Tensor,
    *,
    metric: Literal["mse", "l1", "cosine", "kl"] = "mse",
    reduction: PositionReduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    """Disagreement of two outputs for what should be the same.

    ``mse`` is ``(a - b)²`` and ``l1`` is ``|a - b|``, with gradient 0 where they agree; ``kl`` is
    the mean of both directions of ``kl_divergence``; ``cosine`` is ``1 - cos(a, b)`` of the two
    tensors flattened, where a zero vector has cosine 0 with everything, and zero gradient.

    Args:
        a: Any shape; for ``kl`` log-probabilities ``[..., V]``.
        b: The same shape, or one of the two broadcasts to the other.
        metric: See above.
        reduction: Over all kept elements, or positions for ``kl``; ``"none"`` leaves them, with 0
            where dropped. ``cosine`` is one number under every reduction.
        mask: True where a position counts.

    Returns:
        At least 0; ``cosine`` at most 2.

    Reference:
        Laine and Aila, "Temporal ensembling for semi-supervised learning", 2017.
    """
    choice("metric", metric, ("mse", "l1", "cosine", "kl"))
    check_position_reduction(reduction)
    if metric == "kl":
        return symmetric_kl(("a", "b"), a, b, reduction, mask)
    a, b = same_shape(("a", "b"), floating("a", a), floating("b", b))
    check_mask(mask, a.shape)
    if metric == "cosine":
        return _cosine_distance(dropped(a, mask).flatten(), dropped(b, mask).flatten())
    difference = dropped(a - b, mask)
    values = difference.square() if metric == "mse" else difference.abs()
    return reduced(values, reduction, mask)


def _rows(x: Tensor, axis: Axis) -> Tensor:
    if axis == "sequence" and x.dim() == 3:
        return x.transpose(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2])
    matrix = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return matrix.T if axis == "vocabulary" and x.dim() in (2, 3) else matrix


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    # Autocast would round the products to half precision, and with them every small correlation.
    # Asked first, because entering it costs as much as the rest of a small call.
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _gram(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``Σ_{i≠j} G_ij²`` and the diagonal of ``G = Y Yᵀ``."""
    gram = rows @ rows.T
    # Not ‖G‖² less the diagonal's squares: that cancels every digit near orthogonality.
    return gram.triu(1).square().sum() * 2.0, gram.diagonal()


def _narrow_gram(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The same by ``C = Yᵀ Y``, which is d by d and not n by n, since ``‖Y Yᵀ‖ = ‖Yᵀ Y‖``.

    Only for n ≥ 2d unit rows. They are far from orthogonal (at least half of ``‖G‖²`` is off the
    diagonal), so that the difference keeps its digits; if most of them are zero or dropped, those
    of float32 beside the number of the others.
    """
    diagonal = rows.square().sum(-1)
    return (rows.T @ rows).square().sum() - diagonal.square().sum(), diagonal


def _cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    if a.numel() == 0:
        return (a + b).sum() + 1.0
    unit_a, zero_a = unit(a / magnitude(a))
    unit_b, zero_b = unit(b / magnitude(b))
    # 1 - cos = ½‖u - v‖² does not cancel: equal directions give 0, not the rounding error of 1 - 1.
    # Each zero vector leaves ½ out of it.
    zeros = zero_a.to(a.dtype) + zero_b.to(b.dtype)
    return ((unit_a - unit_b).square().sum() + zeros.sum()) * 0.5
