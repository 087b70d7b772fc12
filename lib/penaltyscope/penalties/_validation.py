"""Whether a tensor is finite: asked on the host, or answered on the device."""

import torch
from torch import Tensor

from penaltyscope.errors import NonFiniteError


def validate(x: Tensor, *, name: str = "x") -> Tensor:
    """Return ``x`` unchanged if all of it is finite. Waits for the device.

    Args:
        x: Any shape and dtype; integers are always finite.
        name: What the error calls the tensor.

    Raises:
        NonFiniteError: With ``kind`` ``"nan"`` if there is a NaN, else ``"inf"`` for an infinity.
    """
    code = int(finiteness(x))
    if code:
        raise NonFiniteError("nan" if code == 1 else "inf", name)
    return x


def finiteness(x: Tensor) -> Tensor:
    """What ``validate`` finds, as a number on the device, without waiting for it.

    Args:
        x: Any shape and dtype.

    Returns:
        A 0-d uint8 tensor: 0 if all is finite, 1 if there is a NaN, else 2 for an infinity.
    """
    if x.is_complex():
        x = torch.view_as_real(x)
    if not x.is_floating_point() or x.numel() == 0:
        return torch.zeros((), dtype=torch.uint8, device=x.device)
    # One pass over the tensor: a NaN anywhere becomes both extremes, an infinity one of them.
    low, high = x.detach().aminmax()
    infinite = low.isinf() | high.isinf()
    return low.isnan().to(torch.uint8) + infinite.to(torch.uint8) * 2
