"""What it costs to know which term drives the update, beside the training step it is known of."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor, nn

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import interleaved, ratio
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.transformer import Sizes, language_model
from penaltyscope.attribution import AllParameters, LastLayer, UpdateAlignment

EVERY = 20
SMALL = Sizes(width=128, layers=2, vocabulary=256, batch=4, tokens=32)

Make = Callable[[], tuple[nn.Module, Tensor]]
"""A model and its input."""


def perceptron(sizes: Sequence[int] = (512, 1024, 1024, 128)) -> tuple[nn.Module, Tensor]:
    """A classifier and its input."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1]), torch.randn(64, sizes[0])


def transformer(sizes: Sizes = SMALL) -> tuple[nn.Module, Tensor]:
    """A language model and its input."""
    return language_model(sizes), torch.randint(sizes.vocabulary, (sizes.batch, sizes.tokens))


class Job:
    """A training step with eight terms and a task loss, each probe at a model of its own."""

    def __init__(self, make: Make) -> None:
        torch.manual_seed(0)
        self.model, self.x = make()
        self.pipeline = ps.Pipeline(TERMS)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        with torch.no_grad():
            shape = self.model(self.x).shape
        self.teacher = torch.randn(shape).log_softmax(-1)
        self.labels = torch.randint(shape[-1], shape[:-1]).flatten()

    def forward(self) -> ps.PipelineResult:
        """The model, the task loss and the terms."""
        student = self.model(self.x).log_softmax(-1)
        base = nn.functional.nll_loss(student.flatten(0, -2), self.labels)
        result: ps.PipelineResult = self.pipeline(student=student, teacher=self.teacher, base=base)
        return result

    def step(self) -> None:
        """A whole training step."""
        self.finish(self.forward())

    def finish(self, result: ps.PipelineResult) -> None:
        """All but the forward pass."""
        self.optimizer.zero_grad()
        result.loss.backward()
        self.optimizer.step()

    def aligned(self, every: int) -> Callable[[], None]:
        """A step that is measured ``every`` so many times."""
        alignment = UpdateAlignment(self.pipeline, self.model, self.optimizer, every=every)

        def step() -> None:
            self.finish(alignment.run(self.forward))
            assert not alignment.closed

        return step


def rows(effort: Effort) -> list[Row]:
    """Alignment as it is meant, every 20 steps; then every method at every step."""
    return [
        row
        for name, make in (("perceptron", perceptron), ("transformer", transformer))
        for row in (sparse(name, make, effort), *dense(name, make, effort))
    ]


def sparse(name: str, make: Make, effort: Effort) -> Row:
    """At its real cadence, step by step beside a plain one: a cycle of medians."""
    plain, aligned = Job(make).step, Job(make).aligned(EVERY)
    times = interleaved({"plain": plain, "aligned": aligned}, max(2 * effort.rounds, 2 * EVERY))
    ratios = [a / b for a, b in zip(times["aligned"], times["plain"], strict=True)]
    # `interleaved` begins with a step that it does not time, which is the first measured one.
    measured, between = (
        ratios[EVERY - 1 :: EVERY],
        [r for i, r in enumerate(ratios, start=1) if i % EVERY],
    )
    cycle = (median(measured) + (EVERY - 1) * median(between)) / EVERY
    return Row(f"{name}, alignment every {EVERY} steps / without", cycle, bar=1.06)


def dense(name: str, make: Make, effort: Effort) -> list[Row]:
    """The price of one measurement, by each method."""
    plain, always, layer, full = (Job(make) for _ in range(4))
    linear = [*layer.model.children()][-1]
    assert isinstance(linear, nn.Linear)
    probes = (
        LastLayer(layer.pipeline, linear, every=1),
        AllParameters(full.pipeline, full.model, every=1),
    )
    steps = {
        "plain": plain.step,
        "alignment": always.aligned(1),
        "last layer": layer.step,
        "all parameters": full.step,
    }
    times = interleaved(steps, max(effort.rounds // 5, 2))
    assert not any(probe.closed for probe in probes)
    return [
        Row(f"{name}, {step} at every step / without", ratio(times, step, "plain"))
        for step in ("alignment", "last layer", "all parameters")
    ]
