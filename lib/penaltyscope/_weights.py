"""Numbers of the host as tensors beside the values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from penaltyscope._scalar import constants


def constant(
    numbers: float | Sequence[float] | Sequence[bool], dtype: torch.dtype, like: Tensor
) -> Tensor:
    """The numbers as a vector, or the number 0-d, on the device of ``like``; not to be changed.

    It is made once: on the CPU that takes longer than to look it up, on an accelerator another copy
    would make the host wait for it, or would be kept out of a CUDA graph. Beside tensors that
    only pretend, as where memory is estimated, one that was made before would be refused.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return torch.tensor(numbers, dtype=dtype, device=like.device)
    known = numbers if isinstance(numbers, float) else tuple(numbers)
    return constants(known, dtype, like.device)


def weight_tensor(weights: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """``[T]``, the weights in the dtype and on the device of ``like``."""
    numbers = [0.0 if isinstance(weight, Tensor) else weight for weight in weights]
    fixed = constant(numbers, like.dtype, like)
    if not any(isinstance(weight, Tensor) for weight in weights):
        return fixed
    parts = [w.to(like) if isinstance(w, Tensor) else fixed[i] for i, w in enumerate(weights)]
    return torch.stack(parts)
