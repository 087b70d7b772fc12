"""What each probe costs, counted in matrix products: the same on every machine."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import penaltyscope as ps
from benchmarks.operations import Operations
from benchmarks.terms import TERMS
from penaltyscope.attribution import AllParameters, LastLayer, Probe, UpdateAlignment

ELEMENTWISE = TERMS[:-1]
"""Without orthogonality, which has products of its own."""
PRODUCTS = ("addmm", "bmm", "mm")


class Job:
    """Three linear layers and some terms."""

    def __init__(self, terms: int) -> None:
        layers = [nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)]
        self.model: nn.Module = nn.Sequential(*layers)
        self.pipeline = ps.Pipeline(ELEMENTWISE[:terms])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.x, self.teacher = torch.randn(32, 16), torch.zeros(32, 16).log_softmax(-1)

    def forward(self) -> ps.PipelineResult:
        student = self.model(self.x).log_softmax(-1)
        result: ps.PipelineResult = self.pipeline(
            student=student, teacher=self.teacher, base=student.mean()
        )
        return result

    def counts(self, run: Callable[..., Any]) -> Counter[str]:
        with Operations() as operations:
            run(self.forward).loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        counts: Counter[str] = operations.counts
        return counts


def products(counts: Counter[str]) -> int:
    return sum(counts[name] for name in PRODUCTS)


def aligned(job: Job) -> tuple[Probe, Callable[..., Any]]:
    alignment = UpdateAlignment(job.pipeline, job.model, job.optimizer, every=2)
    return alignment, alignment.run


def at_the_last_layer(job: Job) -> tuple[Probe, Callable[..., Any]]:
    layer = [*job.model.children()][-1]
    assert isinstance(layer, nn.Linear)
    return LastLayer(job.pipeline, layer, every=2), lambda forward: forward()


def everywhere(job: Job) -> tuple[Probe, Callable[..., Any]]:
    return AllParameters(job.pipeline, job.model, every=2), lambda forward: forward()


# A training step has 3 products forward and 5 backward: the first layer's input needs no gradient.
@pytest.mark.parametrize(
    ("make", "more"),
    [
        # 3 forward, 3 with the weights' tangents, 3 with the inputs', of which the first is nothing
        (aligned, lambda terms: 9),
        (at_the_last_layer, lambda terms: 3),  # all gradients by all inputs, and two Gram matrices
        (everywhere, lambda terms: 5 * (terms + 1) + 6),  # and one Gram matrix per parameter
    ],
)
@pytest.mark.parametrize("terms", [1, 7])
def test_products_of_a_measured_step(
    make: Callable[[Job], tuple[Probe, Callable[..., Any]]],
    more: Callable[[int], int],
    terms: int,
) -> None:
    job = Job(terms)
    probe, run = make(job)
    measured, plain, again = (job.counts(run) for _ in range(3))
    assert not probe.closed
    assert products(plain) == 8
    assert products(measured) - products(plain) == more(terms)
    assert products(again) == products(measured), "the third step is measured again"


@pytest.mark.parametrize("make", [aligned, at_the_last_layer, everywhere])
def test_a_step_between_two_measurements_is_a_plain_step(
    make: Callable[[Job], tuple[Probe, Callable[..., Any]]],
) -> None:
    job = Job(7)
    without = job.counts(lambda forward: forward())
    _, run = make(job)
    _, between = job.counts(run), job.counts(run)
    assert between == without


def test_built_in_terms_are_not_differentiated_one_by_one() -> None:
    job = Job(7)
    _, run = aligned(job)
    measured, plain = job.counts(run), job.counts(run)
    more = measured - plain
    # The KL of log-probabilities would need one, and each of four terms exponentials of its own.
    assert more["_log_softmax_backward_data"] == 0
    assert more["exp"] <= 4


class Attending(nn.Module):
    """An attention of a batch that comes first to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return attended


def test_rows_that_do_not_lie_side_by_side_are_one_product_with_a_weight() -> None:
    job = Job(7)
    job.model, job.x = Attending(), torch.randn(4, 8, 16)
    job.optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1)
    job.teacher = torch.zeros(4, 8, 16).log_softmax(-1)
    _, run = aligned(job)
    more = job.counts(run) - job.counts(run)
    # Queries with keys and weights with values, each with two tangents; and no weight of a layer.
    assert more["bmm"] == 6
