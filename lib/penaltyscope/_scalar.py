"""Scalars: numbers on the host where reading them waits for nothing, else 0-d tensors."""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.compiler import is_compiling

Scalar: TypeAlias = float | Tensor

_NUMBERS = {float, int}

Extremes: TypeAlias = tuple[Scalar, Scalar]
"""The smallest and the largest of many elements; NaN if any of them is."""


def on_host(x: Tensor) -> bool:
    """Whether Python may look at the contents of ``x`` without waiting or breaking a graph."""
    real = type(x) is Tensor or not isinstance(x, FakeTensor)
    return real and x.is_cpu and not is_compiling()


def is_traced() -> bool:
    """Whether what runs now is being compiled, or transformed by torch.func."""
    return is_compiling() or torch._C._are_functorch_transforms_active()  # noqa: SLF001


def read(scalars: list[Tensor]) -> list[Scalar]:
    """0-d tensors as numbers where that is free, else as they are."""
    if not on_host(scalars[0]):
        return [*scalars]
    try:
        # Not item(), which counts as a synchronisation; one by one, because stacking costs more.
        return [cast("float", x.tolist()) for x in scalars]
    except RuntimeError:  # zeros of autograd's, which have no memory
        return torch.stack(scalars).tolist()


def read_vector(numbers: Tensor) -> list[Scalar]:
    """A vector likewise."""
    return numbers.tolist() if on_host(numbers) else [*numbers.unbind()]


def read_one(x: Tensor) -> Scalar:
    """The 0-d ``x`` as a number where that is free, else as it is, without a graph."""
    return cast("float", x.tolist()) if on_host(x) else x.detach()


def extremes(x: Tensor) -> Extremes | None:
    """Those of a tensor, read where that is free; None where there are none."""
    if not x.numel() or not x.is_floating_point():
        return None
    low, high = torch.aminmax(x.detach() if x.requires_grad else x)
    return read_one(low), read_one(high)


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype that sums over ``x`` are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    """``x`` in float64 where the device has it."""
    return x if x.device.type == "mps" else x.double()


def vector(scalars: Sequence[Scalar], like: Tensor) -> Tensor:
    """The scalars as one vector in the dtype and on the device of ``like``."""
    if not any(isinstance(s, Tensor) for s in scalars):
        # A plain copy to an accelerator would make the host wait for it.
        return torch.tensor(scalars, dtype=like.dtype).to(like.device, non_blocking=True)
    return torch.stack([tensor(s, like.dtype, like.device) for s in scalars])


def tensor(x: Scalar, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``x``, 0-d; what does not fit is infinite."""
    if isinstance(x, Tensor):
        return x.to(device=device, dtype=dtype)
    # Torch would refuse a number that does not fit, where its own arithmetic overflows.
    fits = not abs(x) > torch.finfo(dtype).max
    return torch.full((), x if fits else math.copysign(math.inf, x), dtype=dtype, device=device)


def row(scalars: Sequence[Scalar], device: torch.device) -> Tensor:
    """The scalars side by side: on the host exactly, elsewhere in the widest of their dtypes."""
    if not any(issubclass(kind, Tensor) for kind in set(map(type, scalars))):
        known = torch.from_numpy(np.array(scalars, dtype=np.float64))
        # MPS has no float64.
        return (known.float() if device.type == "mps" else known).to(device, non_blocking=True)
    parts = [s if isinstance(s, Tensor) else tensor(s, torch.float32, device) for s in scalars]
    return torch.stack([part.to(device, non_blocking=True) for part in parts])


def packed(scalars: Sequence[Scalar], device: torch.device) -> bytes | Tensor:
    """The scalars side by side: on the host the bytes of float64, which cost least to keep."""
    if not {*map(type, scalars)} <= _NUMBERS:
        return row(scalars, device)
    return struct.pack(f"{len(scalars)}d", *scalars)


def unpacked(numbers: bytes | Tensor) -> Tensor:
    """What ``packed`` made, as a vector."""
    if isinstance(numbers, Tensor):
        return numbers
    return torch.frombuffer(bytearray(numbers), dtype=torch.float64)


def size(x: Scalar) -> Scalar:
    """``|x|``."""
    return x.abs() if isinstance(x, Tensor) else abs(x)


def root(square: Scalar) -> Scalar:
    """The root of a square that rounding may have made negative; NaN stays NaN."""
    return square.clamp(min=0).sqrt() if isinstance(square, Tensor) else max(square, 0.0) ** 0.5


def times(weight: Scalar, x: Scalar) -> Scalar:
    """``weight * x``, and 0 for a weight of 0 whatever ``x`` is."""
    if isinstance(weight, Tensor):
        return torch.where(weight == 0, 0.0, weight * x)
    return weight * x if weight else 0.0


@lru_cache(maxsize=1024)
def constants(
    numbers: float | tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Numbers as a vector, or one 0-d, that is made once; not to be changed in place."""
    # A tensor that was made in inference mode could not be saved for a backward pass.
    with torch.inference_mode(mode=False):
        return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)
