"""Value, gradient and norm of orthogonality by the smaller Gram matrix, where rows are many."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.effort import Effort
from benchmarks.engines import Step
from benchmarks.measure import interleaved, ratio
from benchmarks.row import Row
from benchmarks.terms import ORTHOGONALITY, TEXTBOOK


def rows(effort: Effort) -> list[Row]:
    """Against the Gram matrix of all rows, which is how it is usually written.

    Neither value nor gradient can be had without two products, which are shown alone.
    """
    found = []
    for shape in effort.tall:
        own, textbook = Step([ORTHOGONALITY], shape), Step([TEXTBOOK], shape)
        times = interleaved(
            {
                "own": own.fused,
                "plain": textbook.plain,
                "products": partial(_products, torch.randn(shape)),
            },
            effort.large_rounds,
        )
        where = f"plain of all rows, {[*shape]}"
        measured, products = ratio(times, "own", "plain"), ratio(times, "products", "plain")
        found += [
            Row(f"orthogonality with its norm / {where}", measured, bar=0.10),
            Row(f"the products of orthogonality alone / {where}", products),
        ]
    return found


def _products(x: Tensor) -> Tensor:
    return x @ (x.T @ x)
