"""What the engines cost, as ratios to plain eager evaluation, side by side in one process.

Eight terms with a backward pass: plain (no norms at all), split and fused (the norm of every term's
gradient and of their total), and the reference's way (every term evaluated and differentiated once
more, every number read by the host). All take turns; a ratio is the median of the ratios within a
round, of processor time, on one core. ``--json FILE`` also writes the rows.

Large tensors measure the kernel's page faults unless freed memory is kept, so that the program
starts itself anew with an allocator that keeps it.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope.result import Statistics

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
SMALL, LARGE = (32, 1024), (8, 512, 1024)

SHARED = [
    ps.Term("l1", ps.l1, weight=1e-3, inputs=("student",)),
    ps.Term("l2", ps.l2, weight=1e-3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("js", ps.js_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("entropy", ps.entropy, weight=0.1, inputs=("student",)),
    ps.Term("soft", ps.entropy, weight=0.1, inputs=("student",), options={"temperature": 2.0}),
    ps.Term("size", ps.output_magnitude_penalty, weight=0.1, inputs=("student",)),
]
TERMS = [*SHARED, ps.Term("orthogonality", ps.orthogonality, weight=0.1, inputs=("student",))]
ELEMENTWISE = [*SHARED, ps.Term("elastic", ps.elastic_net, weight=0.1, inputs=("student",))]


def textbook_orthogonality(x: Tensor) -> Tensor:
    """As it is usually written: the Gram matrix of all rows."""
    rows = torch.nn.functional.normalize(x.flatten(0, -2), dim=-1)
    gram = rows @ rows.T
    return (gram - torch.eye(len(gram))).square().sum()


TEXTBOOK = [
    *SHARED,
    ps.Term("orthogonality", textbook_orthogonality, weight=0.1, inputs=("student",)),
]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    measured: float
    """A ratio of times."""
    bar: float | None
    """What it is to stay below, or above if it is a speedup; None where it is only shown."""
    met: bool | None


Step = Callable[[], object]


def opaque(term: ps.Term) -> ps.Term:
    """The same term, but nobody can know that it has a closed form."""
    return replace(term, penalty=partial(term.penalty))


class Engines:
    """One training step's worth of penalties, by each engine."""

    def __init__(self, terms: Sequence[ps.Term], shape: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        self.student = torch.randn(shape).log_softmax(-1).requires_grad_()
        self.tensors = {"student": self.student, "teacher": torch.randn(shape).log_softmax(-1)}
        self._terms = terms
        self._fused = ps.Pipeline(terms)
        self._split = ps.Pipeline([opaque(term) for term in terms])

    def plain(self) -> None:
        """The weighted sum and its gradient; no norms."""
        self.student.grad = None
        self._total(self.tensors).backward()

    def split(self) -> Statistics:
        """With norms out of the backward pass, and the range of every input."""
        return self._step(self._split)

    def fused(self) -> Statistics:
        """With the same norms, and that of the total, in closed form."""
        return self._step(self._fused)

    def _step(self, pipeline: ps.Pipeline) -> Statistics:
        self.student.grad = None
        result: ps.PipelineResult = pipeline(**self.tensors)
        result.total.backward()
        return result.statistics

    def reference(self) -> list[float]:
        """Each term and their total evaluated once more, and every number read."""
        self.plain()
        numbers: list[float] = []
        functions: list[Callable[[Mapping[str, Tensor]], Tensor]]
        functions = [*(partial(self._value, term) for term in self._terms), self._total]
        for function in functions:
            leaf = self.student.detach().requires_grad_()
            value = function({**self.tensors, "student": leaf})
            (gradient,) = torch.autograd.grad(value, leaf)
            numbers += [value.item(), gradient.norm().item()]
        return numbers

    def _value(self, term: ps.Term, tensors: Mapping[str, Tensor]) -> Tensor:
        return term.penalty(*(tensors[name] for name in term.inputs), **term.options)

    def _total(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([t.weight * self._value(t, tensors) for t in self._terms]).sum()  # type: ignore[operator]


def interleaved(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time by step and round; the order turns from round to round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = [*steps]
    for step in steps.values():
        step()
    for i in range(rounds):
        for name in [*names[i % len(names) :], *names[: i % len(names)]]:
            started = time.process_time()
            steps[name]()
            times[name].append(time.process_time() - started)
    return times


def ratio(times: Mapping[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of one step's time over the other's."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def below(name: str, measured: float, bar: float | None = None) -> Row:
    """A ratio that is to be small."""
    return Row(name, measured, bar, None if bar is None else measured <= bar)


def above(name: str, measured: float, bar: float) -> Row:
    """A speedup."""
    return Row(name, measured, bar, measured >= bar)


def engines(shape: tuple[int, ...], rounds: int, fused_bar: float) -> list[Row]:
    """All engines on the eight terms, orthogonality among them."""
    own = Engines(TERMS, shape)
    steps = {n: getattr(own, n) for n in ("plain", "split", "fused", "reference")}
    times = interleaved(steps, rounds)
    where = f"{[*shape]}"
    return [
        below(f"split / plain, {where}", ratio(times, "split", "plain"), 1.05),
        below(f"fused / plain, {where}", ratio(times, "fused", "plain"), fused_bar),
        above(f"reference's way / fused, {where}", ratio(times, "reference", "fused"), 7.0),
        below(f"reference's way / plain, {where}", ratio(times, "reference", "plain")),
    ]


def other_baselines(rounds: int) -> list[Row]:
    """The fused engine on large tensors, beside what else may be called plain."""
    own, textbook = Engines(TERMS, LARGE), Engines(TEXTBOOK, LARGE)
    steps = {"fused": own.fused, "textbook": textbook.plain}
    rows = interleaved(steps, max(rounds // 2, 3))
    elementwise = Engines(ELEMENTWISE, LARGE)
    both = interleaved({"fused": elementwise.fused, "plain": elementwise.plain}, rounds)
    where = f"{[*LARGE]}"
    return [
        below(
            f"fused / plain with the Gram matrix of all rows, {where}",
            ratio(rows, "fused", "textbook"),
            0.35,
        ),
        below(
            f"fused / plain, elastic net for orthogonality, {where}",
            ratio(both, "fused", "plain"),
            0.35,
        ),
    ]


def orthogonality(rounds: int) -> list[Row]:
    """Value, gradient and norm through the smaller Gram matrix, against that of all rows."""
    rows = []
    for shape in ((1024, 256), (4096, 512)):
        own, textbook = Engines(TERMS[-1:], shape), Engines(TEXTBOOK[-1:], shape)
        times = interleaved({"fused": own.fused, "textbook": textbook.plain}, rounds)
        name = f"orthogonality, fused / plain with the Gram matrix of all rows, {[*shape]}"
        rows.append(below(name, ratio(times, "fused", "textbook"), 0.10))
    return rows


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description="Cost of the engines.")
    parser.add_argument("--rounds", type=int, default=200, help="rounds on small tensors")
    parser.add_argument("--large", type=int, default=9, help="rounds on large tensors")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    torch.set_num_threads(1)
    rows = [
        *engines(SMALL, arguments.rounds, 0.45),
        *engines(LARGE, arguments.large, 0.35),
        *other_baselines(arguments.large),
        *orthogonality(arguments.large),
    ]
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'measured':>8}  {'bar':>5}  met")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        met = {True: "yes", False: "no", None: ""}[row.met]
        print(f"{row.name:{width}}  {row.measured:>8.3f}  {bar:>5}  {met}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
