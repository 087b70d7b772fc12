"""What an evaluation costs, counted in operations: numbers that do not depend on the machine."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from benchmarks.operations import Operations
from benchmarks.terms import TERMS, by_user, plain_total

ENGINES: dict[str, list[ps.Term]] = {
    "split": by_user(TERMS),
    "fused": [*TERMS],
    "half of each": [*TERMS[:4], *by_user(TERMS[4:])],
}
"""The same eight terms; only those that are built in can be fused."""


def counted(step: Callable[[Tensor], None]) -> Operations:
    x = torch.randn(32, 128, requires_grad=True)
    operations = Operations()
    with operations:
        step(x.log_softmax(-1))
    return operations


def teacher() -> Tensor:
    return torch.zeros(32, 128).log_softmax(-1)


@pytest.mark.parametrize(
    ("engine", "bound"), [("split", 0.99), ("fused", 0.38), ("half of each", 0.77)]
)
def test_norms_of_all_terms_cost_fewer_operations_than_none(engine: str, bound: float) -> None:
    pipeline, target = ps.Pipeline(ENGINES[engine]), teacher()

    def measured(student: Tensor) -> None:
        pipeline(student=student, teacher=target, base=student.mean()).loss.backward()

    def plain(student: Tensor) -> None:
        loss = student.mean() + plain_total(TERMS, {"student": student, "teacher": target})
        loss.backward()

    counted(measured)  # the first step lays out the others
    ratio = counted(measured).compute / counted(plain).compute
    assert ratio <= bound, f"{ratio:.3f} times the operations"


@pytest.mark.parametrize("terms", ENGINES.values(), ids=ENGINES)
def test_a_watched_step_never_waits_for_the_device(terms: Sequence[ps.Term]) -> None:
    pipeline, target = ps.Pipeline(terms), teacher()
    operations = []
    with ps.watch(pipeline, run="cost", endpoint="http://127.0.0.1:9"):
        for _ in range(3):
            x = torch.randn(32, 128, requires_grad=True)
            optimizer = torch.optim.SGD([x], lr=0.1)
            # Counted on this thread alone; the recorder's may read what it likes.
            with Operations() as counting:
                student = x.log_softmax(-1)
                pipeline(student=student, teacher=target, base=student.mean()).loss.backward()
                optimizer.step()
            operations.append(counting)
    assert all(counting.waits == 0 for counting in operations)
    assert all(c.counts["aminmax"] == 2 for c in operations), "the counter sees the step"


@pytest.mark.parametrize("terms", ENGINES.values(), ids=ENGINES)
def test_a_step_on_a_device_reads_none_of_its_numbers(
    terms: Sequence[ps.Term], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The numbers of this device cannot be read: whoever tries gets an error.
    device = torch.device("meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # it does not know "meta"
    pipeline = ps.Pipeline(terms)
    leaf = torch.empty(32, 128, device=device, requires_grad=True)
    with Operations() as counting:
        student = leaf.log_softmax(-1)
        result = pipeline(student=student, teacher=student.detach(), base=student.mean())
        result.loss.backward()
    assert leaf.grad is not None
    assert result.loss.device == device
    assert counting.waits == 0


@pytest.mark.parametrize(
    ("step", "waits"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool(x.sum() > 0), 1),
        (lambda x: x.to("meta"), 1),
        (lambda x: x.to("meta", non_blocking=True), 0),
        (lambda x: x.new_empty(x.shape, device="meta").copy_(x), 1),
        (lambda x: x.new_empty(x.shape, device="meta").copy_(x, non_blocking=True), 0),
        (lambda x: x.to(torch.float64).clone().copy_(x), 0),
    ],
)
def test_reads_and_blocking_copies_are_waits(step: Callable[[Tensor], object], waits: int) -> None:
    with Operations() as counting:
        step(torch.ones(3))
    assert counting.waits == waits
