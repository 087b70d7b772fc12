"""Orthogonality in closed form, through the smaller of the two Gram matrices."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from penaltyscope._fused._blocks import blocks
from penaltyscope._fused._form import Mask, Sketch, Whole
from penaltyscope._norm import LEAST_SQUARE, MOST_SQUARE
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import on_host, read
from penaltyscope.penalties._arguments import choice
from penaltyscope.penalties._reduction import aligned, dropped

Mode: TypeAlias = Literal["soft", "hard", "spectral"]
Axis: TypeAlias = Literal["rows", "sequence", "vocabulary"]

_PANELS = 4
"""A symmetric product is made of so many panels, each from the diagonal on ..."""
_WIDE = 256
"""... if it has so many columns; for fewer that does not pay."""


def orthogonality(
    _f: Sketch,
    _x: int,
    *,
    mode: Mode = "soft",
    normalize: bool = True,
    axis: Axis = "rows",
    mask: Mask = None,  # noqa: ARG001  # it comes with the tensors
) -> Whole:
    """``‖A‖²`` with the gradient ``4AY``: A is ``Y Yᵀ`` with a diagonal that the mode chooses."""
    choice("mode", mode, ("soft", "hard", "spectral"))
    choice("axis", axis, ("rows", "sequence", "vocabulary"))

    def evaluate(
        tensors: Sequence[Tensor], mask: Tensor | None, wanted: Sequence[bool]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        x = tensors[0]
        rows = _as_rows(dropped(accumulator(x), mask), axis)
        kept: Tensor | float = 1.0
        if mask is not None:
            kept = _as_rows(aligned(mask, x).expand_as(x), axis).any(-1).to(rows.dtype)
        measure = _of_unit_rows if normalize else _of_rows
        value, slope = measure(rows, mode, kept, wanted=wanted[0])
        return value, [None if slope is None else _as_tensor(slope, x.shape, axis)]

    return Whole(evaluate, "position", factor=4.0)


def _of_rows(
    y: Tensor, mode: Mode, kept: Tensor | float, *, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """The value, and a quarter of its gradient if that is wanted."""
    gram = y @ y.T
    excess = gram.diagonal() - kept
    value = gram.fill_diagonal_(0.0).square().sum()
    if mode == "hard":
        value = value + excess.square().sum()
        gram.diagonal().copy_(excess)
    elif mode == "spectral":
        value = value + excess.sum().square()
        gram.diagonal().copy_(excess.sum())
    return value, gram @ y if wanted else None


def _of_unit_rows(
    x: Tensor, mode: Mode, kept: Tensor | float, *, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """The same of the rows divided by their lengths; a zero row stays zero and has no gradient."""
    if x.shape[0] <= x.shape[1] and on_host(x):
        gram = x @ x.T
        # Squares that overflow or vanish need the rows themselves.
        if _ordinary(gram.diagonal()):
            return _of_few_rows(x, gram, mode, kept, wanted=wanted)
    y, inverse = _unit(x)
    narrow = y.shape[0] >= 2 * y.shape[1]
    if narrow:
        # ‖Y Yᵀ‖ = ‖Yᵀ Y‖. So many rows are far from orthogonal: the difference keeps its digits.
        gram = _symmetric_product(y)
        value = gram.square().sum() - (inverse != 0).sum()
    else:
        gram = (y @ y.T).fill_diagonal_(0.0)
        value = gram.square().sum()
    if mode != "soft":
        excess = (inverse != 0).squeeze(-1).to(y.dtype) - kept
        value = value + (excess.square().sum() if mode == "hard" else excess.sum().square())
    if not wanted:
        return value, None
    slope = y @ gram if narrow else gram @ y
    # A unit row has no gradient along itself, so neither has what the diagonal adds.
    for part, own, shrink in blocks(slope, y, inverse):
        along = (part * own).sum(-1, keepdim=True)
        part.addcmul_(own, along, value=-1.0).mul_(shrink)
    return value, slope


def _of_few_rows(
    x: Tensor, gram: Tensor, mode: Mode, kept: Tensor | float, *, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """The same once more: of the long rows themselves there is nothing but two products."""
    shrink = gram.diagonal().rsqrt()
    gram *= shrink[:, None] * shrink
    gram.fill_diagonal_(0.0)
    along = gram.square().sum(-1)
    value = along.sum()
    if mode != "soft":
        excess = 1.0 - torch.as_tensor(kept, dtype=x.dtype).expand(x.shape[0])
        value = value + (excess.square().sum() if mode == "hard" else excess.sum().square())
    if not wanted:
        return value, None
    gram.diagonal().copy_(-along)
    return value, gram.mul_(shrink[:, None] * shrink) @ x


def _ordinary(squares: Tensor) -> bool:
    low, high = map(float, read([squares.amin(), squares.amax()]))
    return low > LEAST_SQUARE and high < MOST_SQUARE


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows divided by their lengths, and ``[n, 1]``, what they were multiplied with."""
    # As _numerics.unit, which has derivatives to take care of.
    if torch.compiler.is_compiling():
        shrink = x.square().sum(-1, keepdim=True).rsqrt().nan_to_num(nan=math.nan, posinf=0.0)
        return x * shrink, shrink
    y, inverse = torch.empty_like(x), x.new_empty(x.shape[0], 1)
    for part, own, shrink in blocks(x, y, inverse):
        torch.linalg.vector_norm(part, dim=-1, keepdim=True, out=shrink)
        shrink.reciprocal_().nan_to_num_(nan=math.nan, posinf=0.0)
        torch.mul(part, shrink, out=own)
    return y, inverse


def _symmetric_product(y: Tensor) -> Tensor:
    """``Yᵀ Y``."""
    columns = y.shape[1]
    if columns < _WIDE or y.device.type != "cpu":
        return y.T @ y
    product = y.new_empty(columns, columns)
    step = -(-columns // _PANELS)
    for start in range(0, columns, step):
        stop = start + step
        panel = y[:, start:stop].T @ y[:, start:]
        product[start:stop, start:] = panel
        product[start:, start:stop] = panel.T
    return product


def _as_rows(x: Tensor, axis: Axis) -> Tensor:
    if axis == "sequence" and x.dim() == 3:
        return x.transpose(0, 1).reshape(x.shape[1], -1)
    matrix = x.reshape(-1, x.shape[-1])
    return matrix.T if axis == "vocabulary" and x.dim() in (2, 3) else matrix


def _as_tensor(rows: Tensor, shape: torch.Size, axis: Axis) -> Tensor:
    if axis == "sequence" and len(shape) == 3:
        return rows.reshape(shape[1], shape[0], shape[2]).transpose(0, 1)
    return (rows.T if axis == "vocabulary" and len(shape) in (2, 3) else rows).reshape(shape)
