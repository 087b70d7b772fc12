"""Euclidean norms, right wherever they fit into float64, and sums that keep their digits."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from penaltyscope._scalar import Scalar, on_host, read

LONGEST = 1 << 16
"""A float32 sum over more elements loses digits on the CPU (1e-3 at 64 M)."""

_SUMMED = (torch.float32, torch.float64)
"""The dtypes that sums over them are kept in as they are."""

# A sum of float32 squares between these has lost nothing to overflow or underflow.
LEAST_SQUARE, MOST_SQUARE = 1e-30, 1e37


def norms(
    tensors: Sequence[Tensor], squares: Mapping[int, Tensor] = MappingProxyType({})
) -> list[Scalar]:
    """The norm of all elements of each tensor; there is at least one tensor.

    Args:
        tensors: of any shapes.
        squares: by ``id``, the sums of squares that are known of some of them.
    """
    if not (on_host(tensors[0]) and all(x.is_cpu for x in tensors)):
        return [precise(x) for x in tensors]
    # On the CPU precision costs something: first without, and all of them read at once.
    found = [squares[id(x)] if id(x) in squares else _square(x) for x in tensors]
    return [
        math.sqrt(square) if LEAST_SQUARE < square < MOST_SQUARE else float(precise(x).numpy())
        for square, x in zip(read(found), tensors, strict=True)
    ]


def summed(tensors: Sequence[Tensor], squares: dict[int, Tensor]) -> Tensor | None:
    """The sum of two or more long tensors; None where it is no different from adding them.

    Each part is squared while the cache still has it from adding it up: ``squares`` gets the sum of
    squares of each tensor and of the whole, 0-d, by ``id``.
    """
    first = tensors[0]
    if first.numel() <= LONGEST or not on_host(first):
        return None
    kinds = {(x.shape, x.dtype, x.device, x.is_contiguous()) for x in tensors}
    if len(kinds) > 1 or first.dtype not in _SUMMED or not first.is_contiguous():
        return None
    total = torch.empty_like(first)
    found: list[list[Tensor]] = [[] for _ in range(len(tensors) + 1)]
    for parts in zip(*[x.view(-1).split(LONGEST) for x in (*tensors, total)], strict=True):
        *terms, whole = parts
        torch.add(terms[0], terms[1], out=whole)
        for own, part in zip(found[:2], terms[:2], strict=True):
            own.append(torch.dot(part, part))
        for own, part in zip(found[2:-1], terms[2:], strict=True):
            whole.add_(part)
            own.append(torch.dot(part, part))
        found[-1].append(torch.dot(whole, whole))
    for x, own in zip((*tensors, total), found, strict=True):
        squares[id(x)] = torch.stack(own).sum()
    return total


def norm(x: Tensor) -> Tensor:
    """The same of one tensor, 0-d."""
    found = norms([x])[0]
    if isinstance(found, Tensor):
        return found
    dtype = torch.promote_types(x.dtype, torch.float32)
    fits = not math.isfinite(found) or found <= torch.finfo(dtype).max
    return torch.tensor(found, dtype=dtype if fits else torch.float64)


def precise(x: Tensor) -> Tensor:
    """One norm in the widest dtype of the device, 0-d."""
    result: Tensor = torch.linalg.vector_norm(x, dtype=widest(x))
    return result


def widest(x: Tensor) -> torch.dtype:
    """The widest dtype of numbers on the device of ``x``."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors, 0-d."""
    if a.numel() <= LONGEST or not a.is_cpu:
        return torch.dot(a, b)
    parts = zip(a.split(LONGEST), b.split(LONGEST), strict=True)
    return torch.stack([torch.dot(left, right) for left, right in parts]).sum()


def _square(x: Tensor) -> Tensor:
    flat = x.ravel()
    if x.dtype not in _SUMMED:
        flat = flat.float()
    return dot(flat, flat)
