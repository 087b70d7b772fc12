"""What a term is in closed form, and what forms are written with."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from penaltyscope._fused._product import plain_sum, square_sum
from penaltyscope._fused._program import Draft
from penaltyscope._numerics import accumulator
from penaltyscope._scalar import Extremes, Scalar

_T = TypeVar("_T", bound=Hashable)

_UNKNOWN: Final = float("nan"), float("nan")

Parts: TypeAlias = tuple[tuple[float, int], ...]
"""Coefficients and fields."""

Mask: TypeAlias = int | None
"""A mask by its number, since a plan is made for any."""

Per: TypeAlias = Literal["element", "position"]
"""What a mask tells apart and a mean is taken over; a position has the last dimension in it."""

Answers: TypeAlias = dict[tuple[Callable[..., Hashable], tuple[Hashable, ...]], Hashable]
"""By question and what it was about."""


class View(NamedTuple):
    """A tensor as rows, of which a mask may keep only some elements."""

    tensor: int
    mask: Mask


class Form(NamedTuple):
    """``value = factor * Σ coefficient * sum``; gradients likewise, of slopes.

    The factor is 1, or for a mean one over the number of elements or positions.
    """

    slopes: Mapping[int, Parts]
    """For each tensor fields ``[n, V]``."""
    sums: Parts
    """Fields that are 0-d and that are added up over all rows."""
    per: Per
    reduction: str
    settle: Callable[[Scalar, Scalar], tuple[Scalar, Scalar]] | None = None
    """For a nonlinear function of the one sum: from it and the factor to value and new factor."""


class Whole(NamedTuple):
    """A term that needs more than one walk over the rows."""

    evaluate: Callable[
        [Sequence[Tensor], Tensor | None, Sequence[bool]],
        tuple[Tensor, Sequence[Tensor | None]],
    ]
    """From tensors, mask, and which gradients are wanted, to the value and those gradients ..."""
    per: Per
    factor: float = 1.0
    """... up to this factor."""


class Situation(NamedTuple):
    """What forms may ask about; it may be different at another step."""

    shapes: Sequence[torch.Size]
    ranges: Sequence[tuple[float, float]]
    """Smallest and largest element of each tensor; NaN where that is not known."""

    @classmethod
    def of(cls, shapes: Sequence[torch.Size], ranges: Sequence[Extremes | None]) -> Self:
        """One where what is empty, or on a device, is not known."""
        return cls(shapes, [*map(_known, ranges)])

    def range(self, view: View) -> tuple[float, float]:
        """The same of a view, where 0 stands for what is dropped. NaN stays NaN."""
        known = self.ranges[view.tensor]
        return known if view.mask is None else (min(known[0], 0.0), max(known[1], 0.0))


class Sketch(Draft):
    """A draft that may ask about the situation; it holds while the answers stay the same."""

    def __init__(self, situation: Situation, *, in_graph: bool = False) -> None:
        super().__init__()
        self.in_graph = in_graph
        """Whether it is to be compiled: then arithmetic is cheap, and a function is not."""
        self._situation = situation
        self.answers: Answers = {}

    def ask(self, question: Callable[..., _T], *about: Hashable) -> _T:
        """The answer of ``question(situation, *about)``, which is remembered."""
        answer = self.answers[question, about] = question(self._situation, *about)
        return answer


def _known(extremes: Extremes | None) -> tuple[float, float]:
    low, high = extremes or _UNKNOWN
    return _UNKNOWN if isinstance(low, Tensor) or isinstance(high, Tensor) else (low, high)


def above(situation: Situation, view: View, bound: float) -> bool:
    """Whether all elements are known to be greater than a bound."""
    return situation.range(view)[0] > bound


def between(situation: Situation, view: View, low: float, high: float) -> bool:
    """Whether all elements are known to be between two bounds."""
    known = situation.range(view)
    return low < known[0] and known[1] < high


def near(situation: Situation, a: View, b: View, bound: float) -> bool:
    """Whether no element of one is known to be further than a bound from any of the other."""
    (a_low, a_high), (b_low, b_high) = situation.range(a), situation.range(b)
    return a_high - b_low <= bound and b_high - a_low <= bound


def sign_of_all(situation: Situation, view: View) -> int:
    """1 or -1 if no element is known to have the other sign, else 0."""
    low, high = situation.range(view)
    return int(low >= 0) or -int(high <= 0)


def columns(situation: Situation, tensor: int) -> int:
    """The size of the last dimension."""
    return situation.shapes[tensor][-1]


def entries(f: Draft, view: View) -> int:
    """The elements, in the dtype of their sums; 0 where dropped, whatever was there."""
    x = f(accumulator, f.leaf("rows", view.tensor))
    if view.mask is None:
        return x
    return f(torch.masked_fill, x, f.leaf("dropped", view.mask), constants=(0.0,))


def kept(f: Draft, view: View, field: int) -> int:
    """A field with 0 where the view drops elements."""
    if view.mask is None:
        return field
    # A product serves: over the zeros that stand for dropped elements every field is finite.
    ones = f(_kept_ones, f.leaf("dropped", view.mask), entries(f, view))
    return f(torch.mul, field, ones)


def total(f: Draft, field: int) -> int:
    """The sum of a field."""
    return f(plain_sum, field, f.leaf("sums"))


def squares(f: Draft, field: int) -> int:
    """The sum of the squares of a field."""
    return f(square_sum, field, f.leaf("sums"))


def _kept_ones(dropped: Tensor, like: Tensor) -> Tensor:
    return (~dropped).to(like.dtype)
