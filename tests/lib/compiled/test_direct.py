"""Runs without the compiler's questions: when there are some, and that they are the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope._compiled import Compiler, _direct
from penaltyscope._fused import Call
from tests.lib.compiled.test_graphs import counted
from tests.lib.compiled.together import assert_same

WEIGHTS = [1.0, 2.0]


def calls(mask: Tensor | None = None) -> list[Call]:
    options = {} if mask is None else {"mask": mask}
    return [Call(ps.l2, (0,), {}), Call(ps.entropy, (0,), options)]


def one(rows: int = 3) -> list[Tensor]:
    return [torch.randn(rows, 4).double().log_softmax(-1).requires_grad_()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each evaluation so far whether the compiler was asked."""
    asked: list[bool] = []
    ordinary, direct = _direct.Recorder.take, _direct.Direct.__call__

    def take(self: _direct.Recorder) -> Any:  # noqa: ANN401
        asked.append(True)
        return ordinary(self)

    def run(self: _direct.Direct, given: Any) -> Any:  # noqa: ANN401
        asked.append(False)
        return direct(self, given)

    monkeypatch.setattr(_direct.Recorder, "take", take)
    monkeypatch.setattr(_direct.Direct, "__call__", run)
    return asked


def evaluated(compiler: Compiler, together: list[Call], tensors: list[Tensor]) -> None:
    assert_same(compiler, together, tensors, WEIGHTS, tolerance=1e-12, gram=False)


def test_tensors_of_a_known_kind_ask_nothing(asked: list[bool]) -> None:
    compiler, _ = counted()
    together = calls()
    for _ in range(3):
        evaluated(compiler, together, one())
    assert asked == [True, False, False]


def test_sizes_that_a_graph_takes_as_numbers_are_known_with_their_kind(asked: list[bool]) -> None:
    compiler, counter = counted()
    together = calls()
    for rows in (3, 5, 7, 3, 5, 7):
        evaluated(compiler, together, one(rows))
    assert asked == [True] * 3 + [False] * 3
    assert counter.frame_count <= 2


def test_masks_are_given_anew(asked: list[bool]) -> None:
    compiler, _ = counted()
    for kept in ([True, False, True], [False, True, True]):
        evaluated(compiler, calls(torch.tensor(kept)), one())
    assert asked == [True, False]


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.detach().T.contiguous().T.requires_grad_(),
        lambda x: torch.nn.Parameter(x.detach()),
    ],
    ids=["strides", "type"],
)
def test_another_kind_is_for_the_compiler_to_judge(
    changed: Callable[[Tensor], Tensor], asked: list[bool]
) -> None:
    compiler, _ = counted()
    together = calls()
    for make in (lambda x: x, changed, lambda x: x):
        evaluated(compiler, together, [make(x) for x in one()])
    assert asked[0]
    assert not asked[-1]


def test_functions_of_a_user_are_for_the_compiler_to_judge(asked: list[bool]) -> None:
    compiler, _ = counted()
    together = [calls()[0], Call(lambda x: x.pow(3).sum(), (0,), {})]
    for _ in range(3):
        evaluated(compiler, together, one())
    assert asked == [True] * 3


def finished(around: Any, output: Tensor) -> _direct._Run:  # noqa: ANN401
    return _direct._Run(around, [torch.ones(2)], (output,))


def test_code_is_run_without_what_is_around_it() -> None:
    def around(x: Tensor) -> tuple[Tensor]:
        return (x + 1,)

    around.current_callable = lambda inputs: (inputs.pop() + 1,)  # type: ignore[attr-defined]
    run = _direct._innermost(finished(around, torch.full((2,), 2.0)))
    assert run is around.current_callable  # type: ignore[attr-defined]


@pytest.mark.parametrize("other", [torch.zeros(2), torch.full((3,), 2.0), torch.full((2,), 2)])
def test_code_that_does_something_else_is_not_run_alone(other: Tensor) -> None:
    def around(x: Tensor) -> tuple[Tensor]:
        return (x + 1,)

    around.current_callable = lambda _: (other,)  # type: ignore[attr-defined]
    run = _direct._innermost(finished(around, torch.full((2,), 2.0)))
    assert torch.equal(run([torch.ones(2)])[0], torch.full((2,), 2.0))


def test_what_runs_is_forgotten_at_once() -> None:
    recorder = _direct.Recorder(lambda module, _: module)
    run = recorder(lambda x: (x + 1,), ())
    assert run(1) == (2,)
    taken = recorder.take()
    assert taken is not None
    assert taken.outputs == (2,)
    assert recorder.take() is None
