"""Tensors for property tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

# A slow machine is not a counterexample.
relaxed = settings(deadline=None, max_examples=60)


def tensors(
    shape: Sequence[int] | None = None, *, low: float = -10.0, high: float = 10.0
) -> st.SearchStrategy[Tensor]:
    """Float64 tensors, of a shape of up to three dimensions if none is given."""
    shapes: Any = tuple(shape) if shape is not None else arrays.array_shapes(max_dims=3, max_side=5)
    # Squares of the smallest numbers would vanish, which says nothing about a formula.
    elements = st.floats(low, high).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
    return arrays.arrays(np.float64, shapes, elements=elements).map(torch.from_numpy)


def log_probabilities(
    positions: int = 3, classes: int = 4, *, impossible: bool = False
) -> st.SearchStrategy[Tensor]:
    """Normalised log-probabilities ``[positions, classes]``, with some -inf if ``impossible``."""
    logits = tensors((positions, classes), low=-8, high=8)
    if not impossible:
        return logits.map(lambda x: torch.log_softmax(x, -1))
    excluded = arrays.arrays(np.bool_, (positions, classes)).map(torch.from_numpy)
    return st.tuples(logits, excluded).map(_without)


def _without(pair: tuple[Tensor, Tensor]) -> Tensor:
    logits, excluded = pair
    first = torch.zeros_like(excluded)
    first[:, 0] = True
    return torch.log_softmax(logits.masked_fill(excluded & ~first, -torch.inf), -1)


def masks(positions: int = 3) -> st.SearchStrategy[Tensor]:
    """Boolean ``[positions]``."""
    return arrays.arrays(np.bool_, (positions,)).map(torch.from_numpy)
