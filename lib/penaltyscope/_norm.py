"""Euclidean norms, right wherever they fit into float64, and products that keep their digits."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from penaltyscope._scalar import Scalar, on_host, read, root

LONGEST = 1 << 16
"""A float32 sum over more elements loses digits on the CPU (1e-3 at 64 M)."""

_ROW = 1 << 13
_SUMMED = {torch.float32, torch.float64}
"""The dtypes that sums over them are kept in as they are."""

# A sum of float32 squares between these has lost nothing to overflow or underflow.
LEAST_SQUARE, MOST_SQUARE = 1e-30, 1e37
LEAST, MOST = LEAST_SQUARE**0.5, MOST_SQUARE**0.5


def norms(tensors: Sequence[Tensor]) -> list[Scalar]:
    """The norm of all elements of each tensor, of any shape; there is at least one tensor."""
    if not all(map(on_host, tensors)):
        return [precise(x) for x in tensors]
    if is_quick(tensors):
        return quick_norms(tensors)
    return _right(tensors, [math.sqrt(_square(x)) for x in tensors])


def joint_norm(tensors: Sequence[Tensor]) -> Scalar:
    """The norm of all elements of all tensors on one device together; there is at least one."""
    if all(map(on_host, tensors)):
        return root(sum(size * size for size in norms(tensors)))
    # One launch for many tensors.
    found = torch._foreach_norm([*tensors], dtype=widest(tensors[0]))  # noqa: SLF001
    together: Tensor = torch.linalg.vector_norm(torch.stack(found))
    return together


def is_quick(tensors: Sequence[Tensor]) -> bool:
    """Whether ``quick_norms`` is right for tensors like these."""
    return all(x.numel() <= LONGEST and x.dtype in _SUMMED and on_host(x) for x in tensors)


def quick_norms(tensors: Sequence[Tensor]) -> list[Scalar]:
    """``norms`` of short tensors on the host, all of them of one kind."""
    return _right(tensors, read([*torch._foreach_norm([*tensors])]))  # noqa: SLF001  # as clip_grad_norm_ does


def _right(tensors: Sequence[Tensor], found: list[Scalar]) -> list[Scalar]:
    return [
        norm if LEAST < norm < MOST else float(precise(x).numpy())
        for norm, x in zip(found, tensors, strict=True)
    ]


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
    x = real_parts(x)
    result: Tensor = torch.linalg.vector_norm(x, dtype=widest(x))
    return result


def together(norms: Tensor, *, dim: int) -> Tensor:
    """Norms of vectors that are parts of one, as its norm, in the widest dtype of the device."""
    result: Tensor = torch.linalg.vector_norm(norms, dim=dim, dtype=widest(norms))
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


def real_parts(x: Tensor) -> Tensor:
    """A complex tensor as the real one that has the same norm."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _square(x: Tensor) -> float:
    """The sum of squares of a tensor on the host."""
    # NumPy's BLAS, which on some processors is much faster than torch's; in rows too short for it
    # to start threads for them, and whose float32 sums lose nothing.
    x = real_parts(x)
    flat = (x if x.dtype in _SUMMED else x.float()).numpy(force=True).reshape(-1)
    whole = len(flat) - len(flat) % _ROW
    rows, rest = flat[:whole].reshape(-1, _ROW), flat[whole:]
    with np.errstate(all="ignore"):  # the caller looks at what comes out
        return float(np.vecdot(rows, rows).sum(dtype=np.float64) + np.vecdot(rest, rest))
