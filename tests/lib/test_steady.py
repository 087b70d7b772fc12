"""Evaluations that are repeated: that they are right, and what ends the repetition."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope import _engine
from penaltyscope._compiled import Compiler
from penaltyscope._steady import Steady

TERMS = [
    ps.Term("l2", ps.l2, weight=0.3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=-0.7, inputs=("student", "teacher")),
    ps.Term("size", ps.output_magnitude_penalty, weight=1, inputs=("teacher",)),
]
NAMES = [term.name for term in TERMS]
OFF = ps.Term("off", ps.l1, inputs=("student",), enabled=False)


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Graphs are real, but run as they were traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_engine, "Compiler", lambda: Compiler("eager"))
        yield


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each evaluation of a compiled pipeline so far whether it was repeated."""
    repeated: list[bool] = []
    ordinary = _engine.Engine.__call__

    def call(self: _engine.Engine, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if self._compiler is not None:
            repeated.append(True)
        return ordinary(self, *arguments, **options)

    def evaluate(self: _engine.Engine, *arguments: Any) -> Any:  # noqa: ANN401
        if self._compiler is not None:
            repeated[-1] = False
        return evaluated(self, *arguments)

    evaluated = _engine.Engine._evaluate
    monkeypatch.setattr(_engine.Engine, "__call__", call)
    monkeypatch.setattr(_engine.Engine, "_evaluate", evaluate)
    return repeated


def pair(rows: int = 3) -> dict[str, Tensor]:
    """Other elements every time, in the same ranges."""
    torch.manual_seed(rows)
    student, teacher = torch.randn(2, rows, 4, dtype=torch.float64).log_softmax(-1)
    torch.seed()
    shuffled = {"student": student[torch.randperm(rows)], "teacher": teacher[:, torch.randperm(4)]}
    return {name: x.requires_grad_() for name, x in shuffled.items()}


def squares(x: Tensor) -> Tensor:
    return x.square().sum()


def settled(terms: list[ps.Term], *, conflict: bool = False) -> ps.Pipeline:
    """A pipeline after some steps that are alike."""
    pipeline = ps.Pipeline(terms, conflict=conflict, compile=True)
    for _ in range(3):
        pipeline(**pair())
    return pipeline


@pytest.fixture(scope="module")
def shared() -> ps.Pipeline:
    return settled(TERMS)


@pytest.fixture
def pipeline(shared: ps.Pipeline) -> ps.Pipeline:
    """One that repeats the next step unless that is another."""
    for name, weight, enabled in (("l2", 0.3, True), ("kl", -0.7, True), ("size", 1, True)):
        shared.set_weight(name, weight)
        shared.set_enabled(name, enabled)
    assert shared._engine is not None
    shared._engine._steady = Steady()  # nothing that other tests have left
    for _ in range(3):
        shared(**pair())
    return shared


def assert_plain(pipeline: ps.Pipeline, inputs: dict[str, Tensor], **options: Any) -> None:  # noqa: ANN401
    """All numbers and gradients are those of the same pipeline without a graph."""
    state, terms = pipeline.get_extra_state(), pipeline.terms
    plain = ps.Pipeline(terms, conflict=pipeline.conflict)
    plain.set_extra_state(state)
    plain._weights = dict(pipeline._weights)
    found, want = pipeline(**inputs, **options), plain(**inputs, **options)
    leaves = [x for x in inputs.values() if x.requires_grad]

    def same(got: Tensor, right: Tensor) -> None:
        torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-14, equal_nan=True)

    for scale, keep in ((-0.5, True), (1.0, False)):
        scales = torch.tensor(scale, dtype=found.total.dtype)
        pulls = [
            torch.autograd.grad(r.total, leaves, scales, retain_graph=keep) for r in (found, want)
        ]
        for got, right in zip(*pulls, strict=True):
            same(got, right)
    for name in ("values", "weights", "gradient_norms", "total_gradient_norm", "gradient_conflict"):
        same(getattr(found, name), getattr(want, name))
    for statistics in (found.statistics, want.statistics):
        assert len(statistics.row) == sum(statistics.layout.parts) + 1 + ("base" in options)
    known = len(terms) + 2 * found.statistics.layout.distinct
    same(found.statistics.row[:known], want.statistics.row[:known])
    last = -1 - ("base" in options)
    same(found.statistics.row[last:], want.statistics.row[last:])
    assert found.statistics.row[last] == found.total.item() or found.total.isnan()
    assert found.statistics.alarming == want.statistics.alarming


def test_a_step_like_the_last_one_is_repeated(repeated: list[bool]) -> None:
    pipeline = settled([*TERMS, OFF])
    assert repeated == [False, True, True]
    assert_plain(pipeline, pair())
    assert repeated[-1]


def test_inner_products_are_repeated_where_all_terms_have_them(repeated: list[bool]) -> None:
    pipeline = settled([*TERMS, OFF], conflict=True)
    assert_plain(pipeline, pair())
    assert not repeated[-1]
    pipeline.set_enabled("off", True)
    for _ in range(3):
        assert_plain(pipeline, pair())
    assert repeated[-1]


def test_a_term_that_is_in_no_graph_has_its_place_among_inner_products() -> None:
    apart = ps.Term("apart", squares, inputs=("teacher",), enabled=False, differentiable=False)
    pipeline = settled([apart, *TERMS], conflict=True)
    assert_plain(pipeline, pair())


OTHER_WEIGHTS: dict[str, Callable[[ps.Pipeline], object]] = {
    "a weight": lambda p: p.set_weight("kl", 0.25),
    "a whole number": lambda p: p.set_weight("kl", -3),
    "a schedule": lambda p: p.set_weight("kl", lambda step: 0.1 * (step + 1)),
    "schedules": lambda p: [*map(p.set_weight, NAMES, [ps.schedules.decay(2, rate=0.5)] * 3)],
    "the same again": lambda p: p.set_enabled("l2", True),
}


@pytest.mark.parametrize("change", OTHER_WEIGHTS.values(), ids=[*OTHER_WEIGHTS])
def test_a_step_with_other_weights_is_repeated(
    change: Callable[[ps.Pipeline], object], pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    change(pipeline)
    for _ in range(3):
        assert_plain(pipeline, pair())
    assert repeated == [True] * 3


def test_weights_that_come_back_to_0_are_known_again(
    pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    pipeline.set_weight("kl", ps.schedules.cyclic(0.0, -1.0, period=3))
    pipeline.step = 0
    for _ in range(7):
        assert_plain(pipeline, pair())
    assert repeated == [False, *[True] * 6]


def test_a_schedule_that_fails_leaves_the_next_step_as_it_was(
    pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    weights = iter([0.5, torch.nan, 0.25, torch.inf, 0.125])
    pipeline.set_weight("kl", lambda _: next(weights))
    for weight in (0.5, 0.25, 0.125):
        kept = pipeline.get_extra_state()
        found = pipeline(**(inputs := pair()))
        assert found.weights[1] == weight
        plain = ps.Pipeline(TERMS)
        plain.set_extra_state(kept)
        plain.set_weight("kl", weight)
        torch.testing.assert_close(found.total, plain(**inputs).total, rtol=1e-12, atol=0.0)
        if weight > 0.125:
            with pytest.raises(ValueError, match="weight of term 'kl' must be finite"):
                pipeline(**pair())
    assert repeated == [True] * 3


CHANGES: dict[str, Callable[[ps.Pipeline], object]] = {
    "a weight of 0": lambda p: p.set_weight("kl", 0.0),
    "a weight that is a tensor": lambda p: p.set_weight("kl", torch.tensor(0.5)),
    "a term that is off": lambda p: p.set_enabled("l2", False),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=[*CHANGES])
def test_a_change_of_the_pipeline_is_noticed(
    change: Callable[[ps.Pipeline], object], pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    change(pipeline)
    for _ in range(3):
        assert_plain(pipeline, pair())
    assert not repeated[0]


def test_terms_that_come_and_go_are_noticed(repeated: list[bool]) -> None:
    pipeline = settled(TERMS)
    pipeline.remove("l2")
    assert_plain(pipeline, pair())
    pipeline.add(TERMS[0])
    assert_plain(pipeline, pair())
    assert not any(repeated[3:])


OTHERS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "rows": lambda: pair(5),
    "what requires grad": lambda: {**pair(), "teacher": pair()["teacher"].detach()},
    "strides": lambda: {n: x.detach().T.contiguous().T.requires_grad_() for n, x in pair().items()},
    "the type": lambda: {n: torch.nn.Parameter(x.detach()) for n, x in pair().items()},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=[*OTHERS])
def test_other_tensors_are_noticed(
    other: Callable[[], dict[str, Tensor]], pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    for inputs in (other(), pair(), other()):
        assert_plain(pipeline, inputs)
    assert repeated == [False, True, True]


def test_one_tensor_in_place_of_two_is_noticed(pipeline: ps.Pipeline, repeated: list[bool]) -> None:
    assert_plain(pipeline, dict.fromkeys(("student", "teacher"), pair()["student"]))
    assert repeated == [False]


def test_a_step_without_gradients_is_noticed(pipeline: ps.Pipeline, repeated: list[bool]) -> None:
    with torch.no_grad():
        result = pipeline(**pair())
    assert not result.total.requires_grad
    assert result.gradient_norms.isnan().all()
    assert repeated == [False]


def test_options_of_one_call_are_not_repeated(pipeline: ps.Pipeline, repeated: list[bool]) -> None:
    assert_plain(pipeline, pair(), options={"l2": {"scale": 5.0}})
    assert_plain(pipeline, pair())
    assert repeated == [False, True]


@pytest.mark.parametrize("base", [3.0, torch.inf])
def test_a_base_loss_has_its_place_in_the_row(
    base: float, pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    assert_plain(pipeline, pair(), base=torch.tensor(base))
    assert repeated == [True]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -2000.0])
def test_what_a_graph_is_not_for_is_evaluated_by_others(
    bad: float, pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    inputs = pair()
    with torch.no_grad():
        inputs["student"][1, 2] = bad
    assert_plain(pipeline, inputs)
    assert_plain(pipeline, pair())
    assert repeated == [False, True]


def second(total: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    xs = [*inputs.values()]
    first = torch.autograd.grad(total, xs, create_graph=True)
    return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), xs)


def test_second_derivatives_are_those_of_the_plain_functions(
    pipeline: ps.Pipeline, repeated: list[bool]
) -> None:
    plain = ps.Pipeline(TERMS)
    for weight in (-0.7, 0.9):
        for each in (pipeline, plain):
            each.set_weight("kl", weight)
        inputs = pair()
        found, want = (second(each(**inputs).total, inputs) for each in (pipeline, plain))
        for x, y in zip(found, want, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)
    assert repeated == [True, True]


def test_an_older_result_keeps_its_numbers(pipeline: ps.Pipeline, repeated: list[bool]) -> None:
    inputs = pair()
    old = pipeline(**inputs)
    row, total = old.statistics.row.clone(), old.total.detach().clone()
    pipeline.set_weight("kl", 5.0)
    pipeline(**pair())
    assert torch.equal(old.statistics.row, row)
    assert torch.equal(old.total.detach(), total)
    want, got = second(ps.Pipeline(TERMS)(**inputs).total, inputs), second(old.total, inputs)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)
    assert repeated == [True, True]


def test_a_copy_finds_out_for_itself(pipeline: ps.Pipeline, repeated: list[bool]) -> None:
    assert_plain(copy.deepcopy(pipeline), pair())
    assert repeated == [False]
