"""Evaluations of one pipeline, as the training thread leaves them."""

from dataclasses import replace

import torch

import penaltyscope as ps
from penaltyscope.telemetry._rows import Row

TERMS = ps.Term("size", ps.l2, weight=0.3), ps.Term("sum", ps.l1, weight=7)


def rows(
    count: int, *, weight: float = 0.3, with_base: bool = True, dtype: torch.dtype = torch.float32
) -> list[Row]:
    """So many in order; ``weight`` is that of the first of two terms."""
    torch.manual_seed(0)
    pipeline = ps.Pipeline((replace(TERMS[0], weight=weight), TERMS[1]), name=f"of {weight}")
    found: list[Row] = []
    for seq in range(count):
        x = torch.randn(5, dtype=dtype, requires_grad=True)
        result = pipeline(x, base=x.mean() if with_base else None)
        found.append((pipeline, seq, result.statistics, None, None))
    return found
