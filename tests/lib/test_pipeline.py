import json
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import penaltyscope as ps
from penaltyscope.result import PipelineResult
from tests.lib.pipelines import squares, two_terms


def scaled(x: Tensor, *, scale: float) -> Tensor:
    return squares(x) * scale


def test_a_schedule_sees_the_step_and_the_step_counts_calls(x: Tensor) -> None:
    pipeline = ps.Pipeline([ps.Term("squares", squares, weight=lambda step: 10.0 * step)])
    assert [pipeline(x).weights.item() for _ in range(3)] == [0, 10, 20]
    assert pipeline(x, step=100).weights.item() == 1000
    assert pipeline.step == 101


def test_the_weights_of_a_result_are_the_callers_own(x: Tensor) -> None:
    pipeline = two_terms()
    first = pipeline(x)
    first.weights.zero_()
    torch.testing.assert_close(pipeline(x).total, first.total)
    assert first.weights.tolist() == [0.5, -2.0]


def test_a_pipeline_runs_on_tensors_without_memory_and_then_on_real_ones(x: Tensor) -> None:
    pipeline = ps.Pipeline([ps.Term("squares", squares, weight=0.375)])
    with FakeTensorMode():
        pretended = pipeline(torch.empty(x.shape))
    real = pipeline(x)
    with FakeTensorMode():
        again = pipeline(torch.empty(x.shape))
    assert pretended.total.shape == again.total.shape == ()
    torch.testing.assert_close(real.total, 0.375 * squares(x))


def test_evaluation_mode_records_nothing_and_stands_still(x: Tensor) -> None:
    pipeline, seen = two_terms(), Seen()
    pipeline.register_observer(seen)
    pipeline.eval()
    pipeline(x)
    assert pipeline.step == 0
    assert seen.heard == []


def test_weights_terms_and_enablement_can_change_between_calls(x: Tensor) -> None:
    pipeline = two_terms()
    pipeline.set_weight("squares", 7)
    pipeline.set_enabled("cubes", False)
    pipeline.add(ps.Term("l1", ps.l1))
    torch.testing.assert_close(pipeline(x).total, 7 * squares(x) + x.abs().sum())
    pipeline.remove("squares")
    assert list(pipeline(x).terms) == ["cubes", "l1"]


def test_options_can_be_overridden_in_one_call(x: Tensor) -> None:
    x.requires_grad_()
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2, options={"scale": 2.0})])
    result = pipeline(x, options={"l2": {"clip": 0.5}})
    result.loss.backward()
    torch.testing.assert_close(result.total, 2 * x.clamp(-0.5, 0.5).square().sum())
    # The norm is that of the function that was evaluated, with the call's options.
    torch.testing.assert_close(result.gradient_norms[0], x.grad.norm())  # type: ignore[union-attr]


def test_options_are_those_that_a_term_was_made_with(x: Tensor) -> None:
    options = {"scale": 2.0}
    terms = [ps.Term("closed", ps.l2, options=options), ps.Term("own", scaled, options=options)]
    pipeline = ps.Pipeline(terms)
    first = pipeline(x)
    options["scale"] = 3.0
    torch.testing.assert_close(pipeline(x).values, first.values)


def test_conflicts_can_be_asked_for_later(x: Tensor) -> None:
    pipeline = two_terms()
    x.requires_grad_()
    pipeline(x)
    pipeline.conflict = True
    result = pipeline(x)
    result.loss.backward()
    assert result.gradient_conflict.isfinite().all()


def test_a_step_is_an_integer_of_any_kind(x: Tensor) -> None:
    pipeline = two_terms()
    pipeline(x, step=torch.tensor(7))
    with pytest.raises(TypeError, match=r"step must be an integer, got 1[.]5"):
        pipeline(x, step=1.5)
    pipeline(x)
    assert pipeline.get_extra_state()["step"] == 9


def test_the_state_survives_a_checkpoint(x: Tensor) -> None:
    pipeline = two_terms()
    pipeline(x, step=41)
    pipeline.set_weight("squares", 0.1)
    pipeline.set_enabled("cubes", False)
    resumed = two_terms()
    resumed.load_state_dict(pipeline.state_dict())
    assert resumed.step == 42
    assert resumed(x).statistics.weights == (0.1, -2)
    assert resumed(x).values.isnan().tolist() == [False, True]


def test_an_adaptive_weight_goes_on_after_a_checkpoint(x: Tensor) -> None:
    def made() -> tuple[ps.Pipeline, ps.schedules.AdaptiveKL]:
        controller = ps.schedules.AdaptiveKL(0.1, target=1.0)
        return ps.Pipeline([ps.Term("kl", squares, weight=controller)]), controller

    pipeline, controller = made()
    controller.update(100.0)
    assert pipeline(x).statistics.weights == (controller.weight,)
    resumed, _ = made()
    resumed.load_state_dict(pipeline.state_dict())
    assert resumed(x).statistics.weights == (controller.weight,)


def test_a_term_may_take_no_input_at_all(x: Tensor) -> None:
    layer = nn.Linear(3, 2)
    decay = ps.Term("decay", ps.over_parameters(ps.l2, layer), inputs=())
    result = ps.Pipeline([decay, ps.Term("l1", ps.l1)])(x)
    result.loss.backward()
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight.detach())


def test_an_empty_pipeline_adds_nothing(x: Tensor) -> None:
    result = ps.Pipeline()(x, base=torch.tensor(2.0, requires_grad=True))
    result.loss.backward()
    assert (result.total.item(), result.loss.item(), result.values.numel()) == (0, 2, 0)


def test_a_pipeline_of_disabled_terms_adds_nothing(x: Tensor) -> None:
    pipeline = ps.Pipeline([ps.Term("squares", squares, enabled=False)])
    assert pipeline(x).total.item() == 0


def test_a_specification_names_built_in_penalties(x: Tensor) -> None:
    spec = ["l1", ("l2", {"weight": 0.01, "name": "ridge", "options": {"clip": 1.0}})]
    result = ps.Pipeline.from_spec(spec)(x)  # type: ignore[arg-type]
    assert list(result.terms) == ["l1", "ridge"]
    torch.testing.assert_close(result.total, ps.l1(x) + 0.01 * ps.l2(x, clip=1.0))


def test_the_dictionary_is_plain_json(x: Tensor) -> None:
    x.requires_grad_()
    result = two_terms()(x, base=torch.tensor(3.0, dtype=torch.float64))
    result.loss.backward()
    data = json.loads(json.dumps(result.to_dict()))
    assert data["base_loss"] == {"value": 3.0}
    assert data["regularizers"]["squares"]["contribution"] == pytest.approx(
        0.5 * data["regularizers"]["squares"]["value"]
    )
    assert data["loss_total"] == pytest.approx(3.0 + data["regularizer_total"])
    assert data["total_grad_norm"] == pytest.approx(result.total_gradient_norm.item())


def test_the_flat_map_has_the_keys_of_the_reference(x: Tensor) -> None:
    x.requires_grad_()
    pipeline = two_terms()
    pipeline.add(ps.Term("off", ps.l1, enabled=False))
    result = pipeline(x)
    assert result.to_metrics().keys() == {
        *("squares", "squares_weighted", "cubes", "cubes_weighted", "total"),
    }
    result.loss.backward()
    metrics = result.to_metrics()
    assert metrics["squares_weighted"] == 0.5 * metrics["squares"]
    assert metrics["squares_grad_norm"] == pytest.approx((2 * x).norm().item())
    assert metrics["total_grad_norm"] == pytest.approx(x.grad.norm().item())  # type: ignore[union-attr]


class Seen:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_start(self, pipeline: ps.Pipeline, step: int) -> None:
        self.heard.append(("start", step))

    def on_stop(self, pipeline: ps.Pipeline, result: PipelineResult) -> None:
        self.heard.append(("stop", result.statistics.step))

    def on_exception(self, pipeline: ps.Pipeline, step: int, error: BaseException) -> None:
        self.heard.append(("exception", step, str(error)))


def test_an_observer_hears_start_stop_and_exception(x: Tensor) -> None:
    pipeline, seen = two_terms(), Seen()
    end = pipeline.register_observer(seen)
    pipeline(x)
    with pytest.raises(TypeError, match="integer"):
        pipeline(x, options={"cubes": {"integer": 1}})
    end()
    pipeline(x)
    assert seen.heard[:3] == [("start", 0), ("stop", 0), ("start", 1)]
    assert isinstance(seen.heard[3], tuple)
    assert seen.heard[3][:2] == ("exception", 1)
    assert len(seen.heard) == 4


def test_a_broken_observer_is_removed_and_training_goes_on(
    x: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Seen):
        def on_stop(self, pipeline: ps.Pipeline, result: PipelineResult) -> None:
            raise RuntimeError("broken")

    pipeline, good = two_terms(), Seen()
    pipeline.register_observer(Broken())
    pipeline.register_observer(good)
    with caplog.at_level(logging.ERROR, "penaltyscope"):
        pipeline(x)
        pipeline(x)
    assert len(caplog.records) == 1
    assert [h for h in good.heard if h == ("stop", 0)]


def call(**arguments: object) -> Callable[[], object]:
    return lambda: two_terms()(**arguments)


BAD = [
    (lambda: ps.Term("", squares), ValueError, "name must be a non-empty string"),
    (lambda: ps.Term("total", squares), ValueError, "reserved"),
    (lambda: ps.Term("t" * 257, squares), ValueError, "at most 256"),
    (lambda: ps.Term("t", 3), TypeError, "penalty of term 't' must be callable, got 3"),  # type: ignore[arg-type]
    (lambda: ps.Term("t", squares, weight=float("nan")), ValueError, "must be finite, got nan"),
    (lambda: ps.Term("t", squares, weight="1"), TypeError, "got str"),  # type: ignore[arg-type]
    (lambda: ps.Term("t", squares, weight=torch.ones(2)), ValueError, r"got shape \(2,\)"),
    (lambda: ps.Term("t", squares, inputs="ab"), ValueError, "tuple of names, got 'ab'"),  # type: ignore[arg-type]
    (lambda: ps.Term("t", squares, inputs=("base",)), ValueError, "reserved"),
    (lambda: ps.Pipeline([ps.Term("t", squares)] * 2), ValueError, "unique, got 't' twice"),
    (
        lambda: two_terms().set_weight("tubes", 1),
        ValueError,
        "one of 'cubes', 'squares', got 'tubes'",
    ),
    (lambda: two_terms().set_weight("cubes", float("inf")), ValueError, "finite, got inf"),
    (lambda: two_terms().remove("x"), ValueError, "got 'x'"),
    (lambda: ps.Pipeline.from_spec(["l7"]), ValueError, "penalty must be one of .* got 'l7'"),
    (lambda: ps.Pipeline.from_spec([("l1", {"wait": 1})]), ValueError, "'wait'"),
    (call(), ValueError, "'input' is missing"),
    (call(input=[1.0]), TypeError, "input must be a tensor, got list"),
    (call(input=torch.ones(2), base=1.0), TypeError, "base must be a tensor, got float"),
    (call(input=torch.ones(2), base=torch.ones(2)), ValueError, r"0-d, got shape \(2,\)"),
    (call(input=torch.ones(2), options={"tubes": {}}), ValueError, "got 'tubes'"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_a_mistake_is_named(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.ones(3), ValueError, r"term 't' must return a 0-d tensor, got shape \(3,\)"),
        (torch.tensor(1), TypeError, "floating-point tensor, got torch.int64"),
        (1.0, TypeError, "floating-point tensor, got float"),
    ],
)
def test_what_a_penalty_returns_is_checked(
    x: Tensor, returned: object, error: type[Exception], message: str
) -> None:
    pipeline = ps.Pipeline([ps.Term("t", lambda _: returned)])  # type: ignore[arg-type, return-value]
    with pytest.raises(error, match=message):
        pipeline(x)


def test_a_schedule_that_is_not_finite_is_named(x: Tensor) -> None:
    pipeline = ps.Pipeline([ps.Term("t", squares, weight=lambda step: float("nan"))])
    with pytest.raises(ValueError, match="weight of term 't' must be finite, got nan"):
        pipeline(x)


def test_an_observer_hears_only_of_what_it_asks_for(x: Tensor) -> None:
    class Ends(ps.Observer):
        def __init__(self) -> None:
            self.heard: list[float] = []

        def on_stop(self, pipeline: ps.Pipeline, result: PipelineResult) -> None:
            self.heard.append(result.total.item())

    pipeline, ends = two_terms(), Ends()
    end = pipeline.register_observer(ends)
    pipeline(x)
    end()
    pipeline(x)
    assert len(ends.heard) == 1
