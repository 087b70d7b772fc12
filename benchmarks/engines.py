"""What the engines cost, as ratios to a plain eager evaluation with its backward pass.

Plain has no norms at all; split and fused have the norm of every term's gradient and of the total;
the reference's way evaluates and differentiates every term once more, and reads every number.
"""

from collections.abc import Sequence

import torch

import penaltyscope as ps
from benchmarks.effort import Effort, Shape
from benchmarks.measure import interleaved, ratio
from benchmarks.row import Row
from benchmarks.terms import ELEMENTWISE, SHARED, TERMS, TEXTBOOK, by_user, plain_total


class Step:
    """One training step's worth of penalties, in each way."""

    def __init__(self, terms: Sequence[ps.Term], shape: Shape) -> None:
        torch.manual_seed(0)
        self._student = torch.randn(shape).log_softmax(-1).requires_grad_()
        self._tensors = {
            "student": self._student,
            "teacher": torch.randn(shape).log_softmax(-1),
        }
        self._terms = terms
        self._pipelines = {"split": ps.Pipeline(by_user(terms)), "fused": ps.Pipeline(terms)}

    def plain(self) -> None:
        """The weighted sum and its gradient."""
        self._student.grad = None
        plain_total(self._terms, self._tensors).backward()

    def split(self) -> ps.PipelineResult:
        """With norms out of the backward pass."""
        return self._measured("split")

    def fused(self) -> ps.PipelineResult:
        """With norms in closed form."""
        return self._measured("fused")

    def reference(self) -> list[float]:
        """Each term and their total evaluated once more, and every number read."""
        self.plain()
        numbers: list[float] = []
        for terms in (*([term] for term in self._terms), self._terms):
            leaf = self._student.detach().requires_grad_()
            value = plain_total(terms, {**self._tensors, "student": leaf})
            (gradient,) = torch.autograd.grad(value, leaf)
            numbers += [value.item(), gradient.norm().item()]
        return numbers

    def _measured(self, engine: str) -> ps.PipelineResult:
        self._student.grad = None
        result: ps.PipelineResult = self._pipelines[engine](**self._tensors)
        result.total.backward()
        return result


def rows(effort: Effort) -> list[Row]:
    """All engines on eight terms, small and large."""
    return [
        *_engines(effort.small, effort.rounds, 0.45),
        *_engines(effort.large, effort.large_rounds, 0.35),
        *_other_baselines(effort),
    ]


def _engines(shape: Shape, rounds: int, fused_bar: float) -> list[Row]:
    step, where = Step(TERMS, shape), [*shape]
    steps = {n: getattr(step, n) for n in ("plain", "split", "fused", "reference")}
    times = interleaved(steps, rounds)
    return [
        Row(f"split / plain, {where}", ratio(times, "split", "plain"), bar=1.05),
        Row(f"fused / plain, {where}", ratio(times, "fused", "plain"), bar=fused_bar),
        Row(
            f"reference's way / fused, {where}",
            ratio(times, "reference", "fused"),
            bar=7.0,
            at_least=True,
        ),
        Row(f"reference's way / plain, {where}", ratio(times, "reference", "plain")),
    ]


def _other_baselines(effort: Effort) -> list[Row]:
    """The fused engine on large tensors, beside what else may be called plain."""
    shape, where = effort.large, [*effort.large]
    own, textbook = Step(TERMS, shape), Step((*SHARED, TEXTBOOK), shape)
    both = interleaved(
        {"fused": own.fused, "textbook": textbook.plain}, max(effort.large_rounds // 3, 2)
    )
    elementwise = Step(ELEMENTWISE, shape)
    times = interleaved(
        {"fused": elementwise.fused, "plain": elementwise.plain}, effort.large_rounds
    )
    return [
        Row(
            f"fused / plain with the Gram matrix of all rows, {where}",
            ratio(both, "fused", "textbook"),
        ),
        Row(
            f"fused / plain, elastic net for orthogonality, {where}", ratio(times, "fused", "plain")
        ),
    ]
