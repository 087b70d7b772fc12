"""The logarithm of a mean, without one where arithmetic costs less."""

from typing import Final

import torch
from torch import Tensor
from torch.compiler import is_compiling

_SERIES: Final = (0.14095780552883042, 0.13978836221305446, 0.20012556460912084, 0.3333315510753931)
"""``(artanh(s)/s - 1)/s²`` for ``|s| <= 1/3`` as a polynomial of ``s²``, highest power first.

Least largest error of ``artanh(s)/s``: 4e-9.
"""


def log_mean(p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """``log((p + q) / 2)``, elementwise, of positive numbers whose logarithms are known."""
    if not is_compiling() or p.dtype != torch.float32:
        return torch.lerp(p, q, 0.5).log()
    # Of the larger one the mean is the part w in [1/2, 1], and log w = 2 artanh(s) where s is
    # (w - 1)/(w + 1): what p and q have in common is not lost, as it is in a logarithm of a sum.
    apart = (p - q).abs()
    s = apart / (2.0 * (p + q) + apart)
    square = s * s
    series = square * _SERIES[0] + _SERIES[1]
    for coefficient in _SERIES[2:]:
        series = series * square + coefficient
    return torch.maximum(log_p, log_q) - 2.0 * (s + s * square * series)
