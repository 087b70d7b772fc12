"""What an evaluation costs, counted in operations: numbers that do not depend on the machine."""

from collections import Counter
from collections.abc import Callable
from typing import Any

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


def test_splitting_adds_at_most_a_tenth_to_the_operations_of_a_plain_step() -> None:
    pipeline, target = ps.Pipeline(TERMS), teacher()

    def split(student: Tensor) -> None:
        pipeline(student=student, teacher=target, base=student.mean()).loss.backward()

    def plain(student: Tensor) -> None:
        inputs = {"student": student, "teacher": target}
        loss = student.mean()
        for term in TERMS:
            value = term.penalty(*(inputs[name] for name in term.inputs), **term.options)
            loss = loss + term.weight * value  # type: ignore[operator]
        loss.backward()

    ratio = counted(split).compute / counted(plain).compute
    assert ratio <= 1.10, f"{ratio:.3f} times the operations"


def test_a_watched_step_never_waits_for_the_device() -> None:
    pipeline, target = ps.Pipeline(TERMS), teacher()
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
