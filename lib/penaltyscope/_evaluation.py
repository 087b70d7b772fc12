"""What an evaluation of all terms leads to."""

from typing import NamedTuple

from torch import Tensor

from penaltyscope._fan import GradientTap
from penaltyscope.result import Layout


class Evaluation(NamedTuple):
    """The outcome; ``total`` is differentiable."""

    layout: Layout
    numbers: bytes | Tensor
    """As ``layout`` describes it."""
    alarming: bool
    """Whether the host has seen, without waiting, that total or base loss is not finite."""
    total: Tensor
    tap: GradientTap | None
    """None when all norms are in the row, or none can come."""
    gram: Tensor | None
    """``[T, T]``, inner products of the weighted gradients, if they are wanted and known."""
