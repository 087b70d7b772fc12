"""What the engines cost, as ratios to a plain eager evaluation with its backward pass.

Plain has no norms at all; split and fused have the norm of every term's gradient and of the total;
the reference's way evaluates and differentiates every term once more, and reads every number.
"""

from collections.abc import Sequence

import torch

import penaltyscope as ps
from benchmarks import by_hand
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
        self._weights = torch.tensor([term.weight for term in terms])
        self._pipelines = {
            "split": ps.Pipeline(by_user(terms)),
            "fused": ps.Pipeline(terms),
            "compiled": ps.Pipeline(terms, conflict=True, compile=True),
        }

    def plain(self) -> None:
        """The weighted sum and its gradient."""
        self._student.grad = None
        plain_total(self._terms, self._tensors).backward()

    def by_hand(self) -> list[float]:
        """With norms out of the backward pass, and nothing else."""
        self._student.grad = None
        return by_hand.step(self._terms, self._weights, self._tensors, "student")

    def split(self) -> ps.PipelineResult:
        """With norms out of the backward pass."""
        return self._measured("split")

    def fused(self) -> ps.PipelineResult:
        """With norms in closed form."""
        return self._measured("fused")

    def compiled(self) -> ps.PipelineResult:
        """With norms and the inner products of all gradients in one graph."""
        result = self._measured("compiled")
        assert result.statistics.gram is not None, "it was evaluated by another engine"
        return result

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
        *_engines(effort.small, effort.rounds, fused=0.45, compiled=0.20, speedup=16.0),
        *_engines(effort.large, effort.large_rounds, fused=0.35, compiled=0.11, speedup=26.0),
        *_with_orthogonality(effort.small, effort.rounds),
        *_with_orthogonality(effort.large, effort.large_rounds),
        _textbook(effort),
    ]


def _engines(
    shape: Shape, rounds: int, *, fused: float, compiled: float, speedup: float
) -> list[Row]:
    step, where = Step(ELEMENTWISE, shape), [*shape]
    names = "plain", "split", "by_hand", "fused", "compiled", "reference"
    steps = {name: getattr(step, name) for name in names}
    times = interleaved(steps, rounds)

    def faster(engine: str, bar: float) -> Row:
        speed = ratio(times, "reference", engine)
        return Row(f"reference's way / {engine}, {where}", speed, bar=bar, at_least=True)

    return [
        Row(f"split / plain, {where}", ratio(times, "split", "plain"), bar=1.05),
        Row(f"the same numbers by hand / plain, {where}", ratio(times, "by_hand", "plain")),
        Row(f"fused / plain, {where}", ratio(times, "fused", "plain"), bar=fused),
        Row(f"compiled / plain, {where}", ratio(times, "compiled", "plain"), bar=compiled),
        faster("fused", 7.0),
        faster("compiled", speedup),
        Row(f"reference's way / plain, {where}", ratio(times, "reference", "plain")),
    ]


def _with_orthogonality(shape: Shape, rounds: int) -> list[Row]:
    """In place of the elastic net; its matrix products are the same in every engine."""
    step = Step(TERMS, shape)
    engines = ("split", "fused")
    times = interleaved({n: getattr(step, n) for n in ("plain", *engines)}, rounds)
    return [
        Row(f"{n} / plain, with orthogonality, {[*shape]}", ratio(times, n, "plain"))
        for n in engines
    ]


def _textbook(effort: Effort) -> Row:
    """Where plain has the Gram matrix of all rows, as orthogonality is usually written."""
    own, textbook = Step(TERMS, effort.large), Step((*SHARED, TEXTBOOK), effort.large)
    steps = {"fused": own.fused, "textbook": textbook.plain}
    times = interleaved(steps, max(effort.large_rounds // 3, 2))
    name = f"fused / plain with the Gram matrix of all rows, {[*effort.large]}"
    return Row(name, ratio(times, "fused", "textbook"))
