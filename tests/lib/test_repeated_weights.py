"""Repeated evaluations along random walks of the weights, bit by bit those of the long way."""

import math
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import penaltyscope as ps
from penaltyscope import _engine
from penaltyscope._compiled import Compiler
from penaltyscope._engine import Engine
from penaltyscope._evaluation import Evaluation

TERMS = [
    ps.Term("l1", ps.l1, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, inputs=("student", "teacher")),
    ps.Term("size", ps.output_magnitude_penalty, inputs=("teacher",)),
    ps.Term("tied", ps.orthogonality, inputs=("student",)),
]
NAMES = ("student", "teacher")
ORDINARY = [0.3, -0.7, 1, -2, 1e-3, 40.0]
ODD = [0.0, -0.0, 0, math.nan, math.inf, -math.inf, 5e-324, 1e-300, 1e-40, 3.5e38, -1e200, 2**70]
"""What vanishes, overflows or is no number, in float32 or in float64."""


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Graphs are real, but run as they were traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_engine, "Compiler", lambda: Compiler("eager"))
        yield


def pair(dtype: torch.dtype) -> list[Tensor]:
    """Other elements every time, in the same ranges."""
    rows = torch.linspace(-1.0, 1.0, 24, dtype=dtype).view(6, 4).sin().log_softmax(-1)
    return [rows[torch.randperm(6)].requires_grad_() for _ in NAMES]


def walk(seed: int, length: int) -> Iterator[tuple[float, ...]]:
    """Weights, of which few differ from those of the step before."""
    chance = random.Random(seed)
    weights = [*ORDINARY[: len(TERMS)]]
    for _ in range(length):
        for place in chance.sample(range(len(TERMS)), chance.choice((0, 1, 1, 2, len(TERMS)))):
            weights[place] = chance.choice(ODD if chance.random() < 0.2 else ORDINARY)
        yield tuple(weights)


def bits(*tensors: Tensor) -> list[bytes]:
    return [x.detach().numpy().tobytes() for x in tensors]


def seen(done: Evaluation, tensors: Sequence[Tensor]) -> list[object]:
    """All that an evaluation tells, to the last bit."""
    assert isinstance(done.numbers, bytes)
    pulls = torch.autograd.grad(done.total, tensors) if done.total.requires_grad else ()
    gram = [] if done.gram is None else bits(done.gram)
    return [asdict(done.layout), done.numbers, done.alarming, bits(done.total, *pulls), gram]


@pytest.mark.parametrize(
    ("dtype", "switched"), [(torch.float32, False), (torch.float64, True)], ids=["all", "switched"]
)
def test_a_walk_of_weights_is_that_of_the_long_way(dtype: torch.dtype, switched: bool) -> None:
    quick, long = (Engine(TERMS, NAMES, conflict=not switched, compiled=True) for _ in range(2))
    long._compiler = quick._compiler
    repeated = 0
    for step, weights in enumerate(walk(seed=1, length=100)):
        enabled = (True, True, not switched or step % 30 < 20, True)
        tensors = pair(dtype)
        again = quick._steady(tensors, None, weights, enabled)
        done = again or quick._evaluate(tensors, None, weights, enabled, {})
        want = long._evaluate(tensors, None, weights, enabled, {})
        assert seen(done, tensors) == seen(want, tensors)
        repeated += again is not None
    assert repeated > 50


@pytest.mark.parametrize("conflict", [False, True])
def test_a_walk_of_weights_is_that_of_the_fused_and_split_engines(conflict: bool) -> None:
    quick = ps.Pipeline(TERMS, conflict=conflict, compile=True)
    others = [ps.Pipeline(terms, conflict=conflict) for terms in (TERMS, apart(TERMS))]
    for weights in walk(seed=conflict, length=60):
        for term, weight in zip(TERMS, weights, strict=True):
            # What is not finite no pipeline takes; of gradients times a tiny weight, which is all
            # that a backward pass brings, no norm is left.
            usual = weight if not weight or 1e-9 < abs(weight) < 1e9 else 1.5
            for pipeline in (quick, *others):
                pipeline.set_weight(term.name, ps.schedules.constant(usual))
        leaves = pair(torch.float64)
        inputs = dict(zip(NAMES, leaves, strict=True))
        found = quick(**inputs)
        pulls = torch.autograd.grad(found.total, leaves, allow_unused=True)
        for other in others:
            want = other(**inputs)
            for x, y in zip(
                pulls, torch.autograd.grad(want.total, leaves, allow_unused=True), strict=True
            ):
                near(torch.zeros(6, 4) if x is None else x, torch.zeros(6, 4) if y is None else y)
            for name in (
                "total",
                "values",
                "weights",
                "contributions",
                "gradient_norms",
                "total_gradient_norm",
                "gradient_shares",
                "gradient_conflict",
            ):
                near(getattr(found, name), getattr(want, name))


def apart(terms: Sequence[ps.Term]) -> list[ps.Term]:
    """The same as functions of which no closed form is known."""
    return [replace(term, penalty=partial(term.penalty)) for term in terms]


def near(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11, equal_nan=True, check_dtype=False)


def test_schedules_make_no_other_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(_engine, "Compiler", lambda: Compiler(counter))
    schedules: list[ps.schedules.Schedule | float] = [
        ps.schedules.warmup(0.5, steps=3),
        ps.schedules.cyclic(-1.0, 1.0, period=4),
        ps.schedules.after(2, ps.schedules.decay(2.0, rate=0.5)),
        0.1,
    ]
    pipeline = ps.Pipeline(TERMS, conflict=True, compile=True)
    for term, weight in zip(TERMS, schedules, strict=True):
        pipeline.set_weight(term.name, weight)
    for _ in range(12):
        student, teacher = pair(torch.float64)
        pipeline(student=student, teacher=teacher).total.backward()
    assert counter.frame_count == 1


def test_threads_with_weights_of_their_own_do_not_meet() -> None:
    engine, enabled = Engine(TERMS, NAMES, conflict=False, compiled=True), (True,) * 4
    tensors = [x.detach() for x in pair(torch.float64)]
    choices = [(0.1 * i, 1.0, -1.0, 2.0) for i in range(1, 5)]
    want = [engine._evaluate(tensors, None, w, enabled, {}).numbers for w in choices]
    wrong: list[int] = []

    def evaluate(i: int) -> None:
        for _ in range(100):
            done = engine._steady(tensors, None, (*choices[i],), enabled)
            if done is None or done.numbers != want[i]:
                wrong.append(i)

    threads = [threading.Thread(target=evaluate, args=(i,)) for i in range(len(choices))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
