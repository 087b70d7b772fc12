"""The same by the plain functions and autograd, one call at a time, and what is the same."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penaltyscope._fused import Call, Fuser, Fusion
from penaltyscope._scalar import extremes

EXACT = 1e-12
"""Relative, of float64."""
QUICK = 1e-6
"""Relative, of float32."""


@dataclass(frozen=True)
class Answer:
    """Of all calls together; lists are by tensor."""

    values: Tensor
    total: Tensor
    gradients: list[Tensor | None]
    """Of the weighted total."""
    norms: list[Tensor]
    """``[F]``, NaN where there is none."""
    gram: Tensor


def plainly(
    calls: Sequence[Call], tensors: Sequence[Tensor], weights: Sequence[float | Tensor]
) -> Answer:
    """What the penalties themselves give; norms and products are taken in float64."""
    leaves = [x.detach().clone().requires_grad_(x.requires_grad) for x in tensors]
    values = [call(leaves) for call in calls]
    slopes = [_slopes(value, leaves) for value in values]
    numbers = [w.item() if isinstance(w, Tensor) else w for w in weights]
    contributions = [w * v for w, v in zip(numbers, values, strict=True) if w]
    pulls = [
        [None if g is None or not w else w * g.double() for g in row]
        for w, row in zip(numbers, slopes, strict=True)
    ]
    gram = torch.zeros(len(calls), len(calls), dtype=torch.float64)
    for i, left in enumerate(pulls):
        for j, right in enumerate(pulls):
            for a, b in zip(left, right, strict=True):
                if a is not None and b is not None:
                    gram[i, j] += (a * b).sum()
    return Answer(
        values=torch.stack(values).detach(),
        total=torch.stack(contributions).sum().detach() if contributions else torch.zeros(()),
        gradients=[_sum([row[x] for row in pulls], leaf) for x, leaf in enumerate(leaves)],
        norms=[
            torch.stack([_norm(row[x], w) for w, row in zip(numbers, slopes, strict=True)])
            for x in range(len(leaves))
        ],
        gram=gram,
    )


def fused(
    calls: Sequence[Call],
    tensors: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    *,
    fuser: Fuser | None = None,
    gram: bool = False,
) -> Fusion:
    """What the fused engine gives; it has to take all calls."""
    ranges = [extremes(x) for x in tensors]
    fusion = (fuser or Fuser())(calls, tensors, weights, extremes=ranges, gram=gram)
    assert fusion is not None
    assert fusion.taken == tuple(range(len(calls)))
    return fusion


@dataclass(frozen=True)
class Found:
    """The numbers of a fusion as tensors."""

    values: Tensor
    total: Tensor
    norms: list[Tensor]
    """By tensor ``[F]``, NaN where there is none."""
    total_norms: dict[int, Tensor]
    gram: Tensor | None


def found(fusion: Fusion) -> Found:
    """What the fused engine has found."""
    solution = fusion.solution
    last = max([x for call in fusion.calls for x in call.tensors])
    norms = torch.full((last + 1, len(fusion.calls)), math.nan, dtype=torch.float64)
    for (call, x), norm in solution.norms.items():
        norms[x, call] = norm
    return Found(
        values=torch.stack([torch.as_tensor(v, dtype=solution.dtype) for v in solution.values]),
        total=torch.as_tensor(solution.total, dtype=solution.dtype),
        norms=list(norms),
        total_norms={
            x: torch.as_tensor(norm, dtype=torch.float64)
            for x, norm in solution.total_norms.items()
        },
        gram=solution.gram,
    )


def assert_same(
    calls: Sequence[Call],
    tensors: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    *,
    tolerance: float = EXACT,
    fuser: Fuser | None = None,
) -> Fusion:
    """Values, total, gradients, norms and inner products are those of the plain functions."""
    fusion = fused(calls, tensors, weights, fuser=fuser, gram=True)
    got, want = found(fusion), plainly(calls, tensors, weights)
    near(got.values, want.values, tolerance)
    near(got.total, want.total, tolerance)
    leaves = [x for x in tensors if x.requires_grad]
    total = fusion.total(tensors)
    if total.requires_grad:
        gradients = iter(torch.autograd.grad(total, leaves, allow_unused=True))
        by_tensor = [next(gradients) if x.requires_grad else None for x in tensors]
    else:
        by_tensor = [None] * len(tensors)
    for x, (pull, gradient) in enumerate(zip(by_tensor, want.gradients, strict=True)):
        if gradient is None:
            # Of a weight that is on a device nobody can say beforehand that it is 0.
            assert pull is None or not pull.any()
            continue
        assert pull is not None
        assert (pull.dtype, pull.shape) == (tensors[x].dtype, tensors[x].shape)
        near(pull, gradient, tolerance)
        near(got.total_norms[x], gradient.norm(), tolerance)
        near(got.norms[x], want.norms[x], tolerance)
    assert got.gram is not None
    near(got.gram, want.gram, 4 * tolerance)
    return fusion


def near(got: Tensor, want: Tensor, tolerance: float) -> None:
    """Equal up to a part of the largest of all numbers; NaN and infinities in the same places."""
    size = want.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    # What is left of numbers that cancel is rounding, on either side: of numbers around 1, and of
    # larger ones where the tolerance is for any; a short row turns with one over its length.
    torch.testing.assert_close(
        got.double(),
        want.detach().double(),
        rtol=tolerance,
        atol=tolerance * size + max(1e-15, 1e-3 * tolerance),
        equal_nan=True,
    )


def _slopes(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor | None]:
    wanted = [x for x in leaves if x.requires_grad]
    if not (wanted and value.requires_grad):
        return [None] * len(leaves)
    found = iter(torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=True))
    return [next(found) if x.requires_grad else None for x in leaves]


def _sum(parts: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    own = [part for part in parts if part is not None]
    return torch.stack(own).sum(0).to(like.dtype) if own else None


def _norm(slope: Tensor | None, weight: float) -> Tensor:
    if slope is None or weight == 0:
        return torch.tensor(math.nan, dtype=torch.float64)
    norm: Tensor = torch.linalg.vector_norm(slope.double())
    return norm
