"""Every case of pipelines and gradient norms in a file of the reference's real outputs."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope.result import PipelineResult
from penaltyscope.term import SINGLE_INPUT
from tests.lib.golden import differences
from tests.lib.golden.golden_file import Case, assert_close, cases, parameters, tensor, tensors

pytestmark = pytest.mark.golden

# The gradient of |x| at 0 is 0 here (see differences.py): x = 0 is compared in value only,
# and in gradient by the tests of the penalties themselves.


def host_sum(x: Tensor) -> Tensor:
    return torch.tensor(x.sum().item(), dtype=x.dtype)


def argmax_sum(x: Tensor) -> Tensor:
    return x.argmax(-1).sum().to(x.dtype)


def squares(x: Tensor) -> Tensor:
    return x.square().sum()


CRITICS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": torch.sum,
    "sum_sq": lambda x: x.square().sum(),
    "sum_abs": lambda x: x.abs().sum(),
    "logsumexp": lambda x: x.flatten().logsumexp(0),
    "argmax_sum": argmax_sum,
    "host_sum": host_sum,
}
PENALTIES: dict[str, Callable[..., Tensor]] = {
    "l1": ps.l1,
    "l2": ps.l2,
    "elastic_net": ps.elastic_net,
    "entropy": ps.entropy,
    "orthogonality": ps.orthogonality,
    "output_magnitude": ps.output_magnitude_penalty,
    "kl": ps.kl_divergence,
    "kl_divergence": ps.kl_divergence,
    "js": ps.js_divergence,
    "js_divergence": ps.js_divergence,
    "consistency": ps.consistency,
    "consistency2": ps.consistency,
    "argmax_sum": argmax_sum,
    "host_sum": host_sum,
}


def penalty(entry: Mapping[str, Any]) -> Callable[..., Tensor]:
    if entry["penalty"] == "gradient_penalty":
        return partial(ps.gradient_penalty, CRITICS[entry["loss_fn"]])
    function = PENALTIES[entry["penalty"]]
    if "reference" in entry:
        reference = tensor(entry["reference"])
        return lambda x, **options: function(x, reference, **options)
    return function


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"scale" if name == "lambda" else name: value for name, value in options.items()}


def weight(encoded: float | Mapping[str, Any]) -> float | Tensor:
    return tensor(encoded) if isinstance(encoded, Mapping) else float(encoded)


def pipeline(case: Case) -> ps.Pipeline:
    made = ps.Pipeline(
        ps.Term(
            entry["name"],
            penalty(entry),
            weight=weight(entry["weight"]),
            inputs=tuple(entry.get("inputs", (SINGLE_INPUT,))),
            options=renamed(entry["opts"]),
            enabled=entry["enabled"],
            differentiable=entry["differentiable"],
        )
        for entry in case["pipeline"]
    )
    for operation, name, *value in case.get("ops") or ():
        if name not in {term.name for term in made.terms}:
            # The reference does nothing; here a misspelt name is an error.
            with pytest.raises(ValueError, match=f"got '{name}'"):
                made.set_weight(name, weight(value[0]))
        elif operation == "update_weight":
            made.set_weight(name, weight(value[0]))
        elif operation == "set_enabled":
            made.set_enabled(name, value[0])
        else:
            made.remove(name)
    return made


def extra(case: Case, made: ps.Pipeline) -> dict[str, dict[str, Any]]:
    """The call's options by term; the reference drops those that a penalty does not know."""
    given = renamed(case["opts"].get("extra_args", {}))
    known = {
        term.name: inspect.signature(PENALTIES.get(entry["penalty"], host_sum)).parameters
        for term in made.terms
        for entry in case["pipeline"]
        if entry["name"] == term.name
    }
    return {name: {k: v for k, v in given.items() if k in known[name]} for name in known}


def inputs(case: Case) -> dict[str, Tensor]:
    encoded = case.get("inputs") or {SINGLE_INPUT: case["args"][0]}
    return {name: tensor(value).requires_grad_() for name, value in encoded.items()}


def check_metrics(case: Case, result: PipelineResult, made: ps.Pipeline) -> None:
    metrics = result.to_metrics()
    wanted = {k: v for k, v in case["expected_metrics"].items() if "grad_norm" not in k}
    if "nothing_enabled" in case.get("tags", ()):
        wanted["total"] = 0.0
    got = {k: v for k, v in metrics.items() if "grad_norm" not in k}
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(got[name], value, case, "value", dtype=case["dtype"])


def check_norms(case: Case, made: ps.Pipeline) -> None:
    given = inputs(case)
    tags = case.get("tags", ())
    # The reference's norms leave the call's options out: held against a call without them.
    used = {} if "grad_norms_ignore_extra_args" in tags else extra(case, made)
    measured = made.gradient_norms(options=used, **given)
    multi = case["function"] == "pipeline_multi_compute"
    for index, term in enumerate(made.terms):
        wanted = case["expected_metrics"].get(f"{term.name}_grad_norm")
        if wanted is not None and given[term.inputs[0]].all():
            # With several inputs the reference looks at a term's first one only.
            norms = measured.norms_by_input[term.inputs[0]] if multi else measured.norms
            assert_close(norms[index], wanted, case, "norm", dtype="f32")
    total = case["expected_metrics"].get("total_grad_norm")
    if total is not None and all(x.all() for x in given.values()):
        assert_close(measured.total_norm, total, case, "norm", dtype="f32")


def gradients(case: Case, result: PipelineResult, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not result.total.requires_grad:
        return {name: torch.zeros_like(x) for name, x in given.items()}
    found = torch.autograd.grad(
        result.total, [*given.values()], allow_unused=True, materialize_grads=True
    )
    return dict(zip(given, found, strict=True))


PIPELINES = cases("pipeline_compute", "pipeline_multi_compute")


@pytest.mark.parametrize(
    "case", parameters(c for c in PIPELINES if "duplicate_name" not in c.get("tags", ()))
)
def test_a_pipeline_gives_the_reference_s_values_gradients_and_norms(case: Case) -> None:
    made, given = pipeline(case), inputs(case)
    result = made(options=extra(case, made), **given)
    assert_close(result.total, case["expected"], case, "value", dtype=case["dtype"])
    check_metrics(case, result, made)
    wanted = case.get("expected_grad") or {}
    if isinstance(wanted, list):
        wanted = dict(zip(given, wanted, strict=True))
    found = gradients(case, result, given)
    for name, gradient in wanted.items():
        if gradient is not None and given[name].all():
            assert_close(found[name], gradient, case, f"gradient of {name}")
    if case["opts"]["track_grad_norms"]:
        check_norms(case, made)
        training = made(options=extra(case, made), **given)
        alone = made.gradient_norms(options=extra(case, made), **given)
        gradients(case, training, given)
        for index, norm in enumerate(training.gradient_norms):
            # What training gives away is what a separate measurement finds, options included.
            if not norm.isnan():
                assert_close(norm, alone.norms[index], case, "norm", dtype="f32")


@pytest.mark.parametrize(
    "case", parameters(c for c in PIPELINES if "duplicate_name" in c.get("tags", ()))
)
def test_two_terms_of_one_name_are_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="unique"):
        pipeline(case)


def test_every_tag_that_stands_for_a_difference_is_in_the_table() -> None:
    harmless = {
        *("differentiable_false", "disabled", "edge", "f64_upstream_f32_accuracy"),
        *("nx_clip_grad_bug", "tensor_weight", "zero_gradient_entry"),
        "zero_negative_integer_weight",
    }
    assert {
        tag for case in PIPELINES for tag in case.get("tags", ())
    } <= harmless | differences.PIPELINES.keys()


@pytest.mark.parametrize("case", parameters(cases("pipeline_from_spec")))
def test_a_specification_gives_the_reference_s_values_and_norms(case: Case) -> None:
    names = {"output_magnitude": "output_magnitude_penalty"}
    spec = []
    for entry in case["spec"]:
        settings = {"name": entry["name"], "options": renamed(entry.get("opts", {}))}
        settings |= {k: v for k, v in entry.items() if k in ("weight", "enabled")}
        spec.append((names.get(entry["name"], entry["name"]), settings))
    made, given = ps.Pipeline.from_spec(spec), inputs(case)
    result = made(**given)
    assert_close(result.total, case["expected"], case, "value")
    found = gradients(case, result, given)[SINGLE_INPUT]
    assert_close(found, case["expected_grad"][0], case, "gradient")
    metrics = result.to_metrics()
    assert metrics.keys() == case["expected_metrics"].keys()
    for name, wanted in case["expected_metrics"].items():
        what = "norm" if name.endswith("grad_norm") else "value"
        assert_close(metrics[name], wanted, case, what, dtype="f32")


@pytest.mark.parametrize("case", parameters(cases("compute_grad_norm")))
def test_the_norm_of_a_function_is_the_reference_s(case: Case) -> None:
    (x,) = tensors(case)
    # The reference has none for a function that leaves the graph; we say 0, as for any constant.
    wanted = 0.0 if case["expected"] is None else case["expected"]
    assert_close(ps.gradient_norm(CRITICS[case["loss_fn"]], x), wanted, case, "norm", dtype="f32")


@pytest.mark.parametrize("case", parameters(cases("apply_scheduled_weights")))
def test_scheduled_weights_are_the_reference_s(case: Case) -> None:
    made = pipeline(case)
    kinds = {"linear": ps.schedules.linear, "constant": ps.schedules.constant}
    for name, (kind, *arguments) in case["schedules"].items():
        length = {"steps": case["total_epochs"]} if kind == "linear" else {}
        schedule = kinds[kind](*arguments, **length)  # type: ignore[operator]
        if name in case["expected_weights"]:
            made.set_weight(name, schedule)
        else:
            with pytest.raises(ValueError, match="got 'nope'"):
                made.set_weight(name, schedule)
    (x,) = tensors(case)
    result = made(x, step=case["epoch"])
    assert_close(result.total, case["expected"], case, "value")
    for name, wanted in case["expected_weights"].items():
        weights = dict(zip(result.terms, result.statistics.weights, strict=True))
        assert_close(float(weights[name]), wanted, case, "value")
    metrics = result.to_metrics()
    assert metrics.keys() == case["expected_metrics"].keys()
    for name, wanted in case["expected_metrics"].items():
        assert_close(metrics[name], wanted, case, "value", dtype="f32")


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, float] | None]] = []

    def on_start(self, pipeline: ps.Pipeline, step: int) -> None:
        self.events.append(("start", None))

    def on_stop(self, pipeline: ps.Pipeline, result: PipelineResult) -> None:
        self.events.append(("stop", result.to_metrics()))

    def on_exception(self, pipeline: ps.Pipeline, step: int, error: BaseException) -> None:
        self.events.append(("exception", None))


@pytest.mark.parametrize("case", parameters(cases("telemetry")))
def test_observers_hear_the_reference_s_events(case: Case) -> None:
    made, heard = pipeline(case), Heard()
    made.register_observer(heard)
    (x,) = tensors(case)
    wanted = [
        (e["event"].rpartition(".")[2], e["metadata"].get("metrics")) for e in case["expected"]
    ]
    if wanted[-1][0] == "exception":
        with pytest.raises(ValueError, match="reduction must be one of"):
            made(x)
    else:
        made(x)
    assert [kind for kind, _ in heard.events] == [kind for kind, _ in wanted]
    for (_, got), (_, metrics) in zip(heard.events, wanted, strict=True):
        for name, value in (metrics or {}).items():
            assert got is not None
            assert_close(got[name], value, case, "value")


REFUSALS: dict[str, Callable[[], object]] = {
    "unknown penalty name :nope": lambda: ps.Pipeline.from_spec(["nope"]),
    "compute on [:kl] (a 3-argument function called with 2)": lambda: ps.Pipeline.from_spec(
        ["kl_divergence"]
    )(torch.randn(3, 4)),
    "a penalty that returns a non-scalar (entropy reduction none)": lambda: ps.Pipeline(
        [ps.Term("h", ps.entropy, options={"reduction": "none"})]
    )(torch.randn(3, 4)),
    "an input name that is not in the map": lambda: ps.Pipeline(
        [ps.Term("kl", ps.kl_divergence, inputs=("p", "q"))]
    )(p=torch.randn(3, 4)),
    # Tinkex's specification of a regularizer is a term here.
    '[weight: 1, name: ""]': lambda: ps.Term("", squares),
    # Any callable may be a penalty; what it takes is known when it is called.
    '[weight: 1, name: "a"]': lambda: ps.Pipeline([ps.Term("a", lambda: torch.ones(()))])(
        torch.randn(3, 4)
    ),
    '[weight: 1, name: "a", async: 1]': lambda: ps.Term("a", squares, asynchronous=1),  # type: ignore[call-arg]
}


def is_negative_weight(case: Case) -> bool:
    return "weight: -1" in case["what"]


PIPELINE_RAISES = [
    case for case in cases("raises") if case["target"].startswith(("pipeline", "tinkex"))
]


@pytest.mark.parametrize(
    "case", parameters(case for case in PIPELINE_RAISES if not is_negative_weight(case))
)
def test_what_a_pipeline_of_the_reference_refuses_is_refused(case: Case) -> None:
    with pytest.raises((TypeError, ValueError)):
        REFUSALS[case["what"]]()


@pytest.mark.parametrize(
    "case", parameters(case for case in PIPELINE_RAISES if is_negative_weight(case))
)
def test_a_negative_weight_is_a_weight(case: Case) -> None:
    assert differences.PIPELINES["negative_weight"]
    result = ps.Pipeline([ps.Term("a", squares, weight=-1)])(torch.ones(3))
    assert result.total.item() == -3
