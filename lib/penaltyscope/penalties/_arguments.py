"""Checks of what callers pass: types, shapes and Python numbers, never a tensor's contents."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from penaltyscope._numerics import accumulator


def check_floating(name: str, x: Tensor) -> None:
    """Refuse what is no tensor, or holds integers, booleans or complex numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}.")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}.")


def floating(name: str, x: Tensor) -> Tensor:
    """Return the floating-point tensor ``x`` in the dtype that its sums are kept in."""
    check_floating(name, x)
    return accumulator(x)


def choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a ``value`` that is not one of ``allowed``."""
    if value not in allowed:
        expected = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"{name} must be one of {expected}, got {value!r}.")


def number(name: str, value: float, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse a ``value`` that is not a finite number from ``low`` to ``high``, both included."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}.")
    if not (low <= value <= high and abs(value) < math.inf):
        bound = "" if high == math.inf else f" and at most {high:g}"
        bound = "" if low == -math.inf else f", at least {low:g}{bound}"
        raise ValueError(f"{name} must be finite{bound}, got {value}.")


def positive(name: str, value: float) -> None:
    """Refuse a ``value`` that is not a finite number above 0."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}.")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}.")


def same_shape(names: tuple[str, str], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Broadcast one of two tensors to the other's shape.

    Both growing at once (``[B]`` against ``[B, 1]``) is refused: a dimension has been forgotten.

    Raises:
        ValueError: If neither shape broadcasts to the other.
    """
    if a.shape == b.shape:
        return a, b
    try:
        shape = torch.broadcast_shapes(a.shape, b.shape)
    except RuntimeError:
        shape = torch.Size([-1])
    if shape not in (a.shape, b.shape):
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same shape, or one must broadcast to the "
            f"other's, got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    return a.expand(shape), b.expand(shape)
