"""Weights as one tensor beside the values."""

from collections.abc import Sequence

import torch
from torch import Tensor


def weight_tensor(weights: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """``[T]``, the weights in the dtype and on the device of ``like``."""
    numbers = [0.0 if isinstance(weight, Tensor) else weight for weight in weights]
    # A plain copy to an accelerator would make the host wait for it.
    fixed = torch.tensor(numbers, dtype=like.dtype).to(like.device, non_blocking=True)
    if numbers == list(weights):
        return fixed
    parts = [w.to(like) if isinstance(w, Tensor) else fixed[i] for i, w in enumerate(weights)]
    return torch.stack(parts)
