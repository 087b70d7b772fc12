"""What an evaluation costs, counted in operations: numbers that do not depend on the machine."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import penaltyscope as ps

VIEWS = {
    *("alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute", "select"),
    *("slice", "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view"),
}
TERMS = [
    ps.Term("l1", ps.l1, weight=1e-3, inputs=("student",)),
    ps.Term("l2", ps.l2, weight=1e-3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("js", ps.js_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("entropy", ps.entropy, weight=0.1, inputs=("student",)),
    ps.Term("soft", ps.entropy, weight=0.1, inputs=("student",), options={"temperature": 2.0}),
    ps.Term("size", ps.output_magnitude_penalty, weight=0.1, inputs=("student",)),
    ps.Term("orthogonality", ps.orthogonality, weight=0.1, inputs=("student",)),
]


class Operations(TorchDispatchMode):
    """Counts what reaches the kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def compute(self) -> int:
        return sum(n for name, n in self.counts.items() if name not in VIEWS)


def counted(step: Callable[[Tensor], None]) -> Operations:
    x = torch.randn(32, 128, requires_grad=True)
    operations = Operations()
    with operations:
        step(x.log_softmax(-1))
    return operations


def teacher() -> Tensor:
    return torch.zeros(32, 128).log_softmax(-1)


def plain(student: Tensor) -> None:
    inputs = {"student": student, "teacher": teacher()}
    loss = student.mean()
    for term in TERMS:
        value = term.penalty(*(inputs[name] for name in term.inputs), **term.options)
        loss = loss + term.weight * value  # type: ignore[operator]
    loss.backward()


def opaque(term: ps.Term) -> ps.Term:
    """The same term, but nobody can know that it has a closed form."""
    return replace(term, penalty=partial(term.penalty))


@pytest.mark.parametrize(
    ("terms", "bound"),
    [
        ([opaque(term) for term in TERMS], 1.0),
        (TERMS, 0.4),
        ([*TERMS[:4], *map(opaque, TERMS[4:])], 0.8),
    ],
    ids=["split", "fused", "half of each"],
)
def test_norms_of_all_terms_cost_fewer_operations_than_none(
    terms: list[ps.Term], bound: float
) -> None:
    pipeline, target = ps.Pipeline(terms), teacher()

    def measured(student: Tensor) -> None:
        pipeline(student=student, teacher=target, base=student.mean()).loss.backward()

    counted(measured)  # the first step lays out the others
    ratio = counted(measured).compute / counted(plain).compute
    assert ratio <= bound, f"{ratio:.3f} times the operations"


@pytest.mark.parametrize("own", [False, True], ids=["fused", "split"])
def test_a_watched_step_never_waits_for_the_device(own: bool) -> None:
    pipeline = ps.Pipeline([*map(opaque, TERMS)] if own else TERMS)
    target = teacher()
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
            operations.append(counting.counts)
    assert all(counts["_local_scalar_dense"] == 0 for counts in operations)
    assert all(counts["aminmax"] == 2 for counts in operations), "the counter sees the step"
