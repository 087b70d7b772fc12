"""The size of tensors, element by element: L1, L2 and what is between them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from penaltyscope._fused._deferred import Findings
from penaltyscope._norm import LONGEST, joint_norm, precise, widest
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Scalar, on_host, read

_LEAST: Final = 1e-30
_MOST: Final = 1e30
"""Coefficients between these are themselves in float32, too."""


def is_ordinary(coefficient: object) -> bool:
    """Whether it is a number that is far from what float32 cannot hold."""
    return type(coefficient) in (int, float) and _LEAST < abs(coefficient) < _MOST  # type: ignore[arg-type]


class Size(NamedTuple):
    """``Σ(a|x| + bx²)``, which has the gradient ``a sign x + 2bx``."""

    a: float
    b: float

    def takes(self, _tensors: list[Tensor]) -> bool:
        """It is one of any."""
        return True

    def measure(self, tensors: list[Tensor]) -> Findings:
        """Reads every element once, or twice if both parts count."""
        a, b = self
        value: Scalar = 0.0
        square: Scalar = 0.0
        if b:
            norm = joint_norm(tensors)
            squares = norm * norm
            value, square = b * squares, 4.0 * b * b * squares
        if a:
            count, absolute = _signed(tensors)
            value, square = value + a * absolute, square + a * a * count
            if b:
                square = square + 4.0 * a * b * absolute
        return Findings(value, square, ())

    def gradients(
        self, tensors: list[Tensor], _kept: Sequence[Tensor], upstream: Tensor
    ) -> Sequence[Tensor]:
        """Those of all tensors at once."""
        a, b = self
        if not a:
            return torch._foreach_mul(tensors, upstream * (2.0 * b))  # noqa: SLF001
        signs = torch._foreach_sign(tensors)  # noqa: SLF001
        if b:
            torch._foreach_mul_(signs, a)
            torch._foreach_add_(signs, tensors, alpha=2.0 * b)
        torch._foreach_mul_(signs, upstream if b else upstream * a)
        return signs


def l1_size(*, scale: float = 1.0, reduction: str = "sum") -> Size | None:
    """``scale * Σ|x|``; None where that is something else."""
    return Size(scale, 0.0) if reduction == "sum" and is_ordinary(scale) else None


def l2_size(*, scale: float = 1.0, reduction: str = "sum") -> Size | None:
    """``scale * Σx²``, likewise."""
    return Size(0.0, scale) if reduction == "sum" and is_ordinary(scale) else None


def elastic_net_size(
    *, scale: float = 1.0, l1_ratio: float = 0.5, reduction: str = "sum"
) -> Size | None:
    """``scale * Σ(r|x| + (1 - r)x²)`` with ``r = l1_ratio``, likewise."""
    if reduction != "sum" or not 0 <= l1_ratio <= 1:
        return None
    found = Size(scale * l1_ratio, scale * (1.0 - l1_ratio))
    return found if all(is_ordinary(c) for c in found if c != 0) and any(found) else None


def _signed(tensors: list[Tensor]) -> tuple[Scalar, Scalar]:
    """``Σ(sign x)²``, where the sign of NaN is 0, and ``Σ|x|``."""
    if all(map(on_host, tensors)):
        # In parts that stay in the cache, and short enough for float32.
        parts = [part for x in tensors for part in accumulator(x).reshape(-1).split(LONGEST)]
        numbers: list[Tensor] = []
        for part in parts:
            sign = part.sign()
            numbers += torch.dot(sign, sign), torch.dot(part, sign)
        found = read(numbers)
        return sum(found[::2]), sum(found[1::2])
    kind = widest(tensors[0])
    absolute = torch.stack(torch._foreach_norm(tensors, 1, dtype=kind)).sum()  # noqa: SLF001
    return torch.stack([precise(x.sign()) for x in tensors]).square().sum(), absolute
