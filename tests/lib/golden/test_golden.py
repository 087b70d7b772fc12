"""Every case of the penalty functions and schedules in a file of the reference's real outputs."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from penaltyscope import penalties, schedules
from penaltyscope.errors import NonFiniteError
from tests.lib import closed_forms
from tests.lib.golden import differences
from tests.lib.golden.golden_file import (
    COPY,
    Case,
    assert_close,
    cases,
    document,
    options,
    parameters,
    tensor,
    tensors,
)

pytestmark = pytest.mark.golden

PENALTIES: dict[str, Callable[..., Tensor]] = {
    "l1": penalties.l1,
    "l2": penalties.l2,
    "elastic_net": penalties.elastic_net,
    "kl_divergence": penalties.kl_divergence,
    "js_divergence": penalties.js_divergence,
    "entropy": penalties.entropy,
    "orthogonality": penalties.orthogonality,
    "consistency": penalties.consistency,
    "output_magnitude_penalty": penalties.output_magnitude_penalty,
    "gradient_penalty": penalties.gradient_penalty,
    "interpolated_gradient_penalty": penalties.interpolated_gradient_penalty,
    # The file's own name for a call with a given epsilon.
    "interpolated_gradient_penalty_at": penalties.interpolated_gradient_penalty,
}

CRITICS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": torch.sum,
    "sum_sq": lambda x: x.square().sum(),
    "sum_cube": lambda x: (x**3).sum(),
    "mean_sq": lambda x: x.square().mean(),
    "logsumexp": lambda x: x.flatten().logsumexp(0),
}

SCHEDULES: dict[str, Callable[..., schedules.Schedule]] = {
    "constant": lambda _total, weight: schedules.constant(weight),
    "linear": lambda total, start, end: schedules.linear(start, end, steps=total),
    "warmup": lambda _total, weight, steps: schedules.warmup(weight, steps=steps),
    "decay": lambda _total, weight, rate: schedules.decay(weight, rate=rate),
}


def evaluate(case: Case) -> tuple[Tensor, list[Tensor]]:
    """Value of a case, and the gradients of its sum."""
    given = [x.requires_grad_() for x in tensors(case)]
    arguments: list[Any] = [*given]
    extra = {"epsilon": case["epsilon"]} if "epsilon" in case else {}
    if "loss_fn" in case:
        arguments.insert(0, critic(case))
    value = PENALTIES[case["function"]](*arguments, **options(case), **extra)
    if not value.requires_grad:  # the gradient of a linear critic is a constant
        return value, [torch.zeros_like(x) for x in given]
    return value, list(torch.autograd.grad(value.sum(), given, materialize_grads=True))


def critic(case: Case) -> Callable[[Tensor], Tensor]:
    if case["loss_fn"] != "linear":
        return CRITICS[case["loss_fn"]]
    coefficients = tensor(case["loss_coef"])
    return lambda x: (x * coefficients).sum()


def right_answer(case: Case) -> closed_forms.Answer:
    """What a case's value and gradients should be, from formulas."""
    arrays = [x.numpy().astype(np.float64) for x in tensors(case)]
    if case["function"] == "gradient_penalty":  # only ever wrong where the gradient vanishes
        target = case["opts"].get("target_norm", 1.0)
        return np.asarray(target**2), [np.zeros_like(arrays[0])]
    formula: Callable[..., closed_forms.Answer] = getattr(closed_forms, case["function"])
    return formula(*arrays, **options(case))


def is_unknown_option(case: Case) -> bool:
    return differences.UNKNOWN_OPTION.covers(case)


def length(gradient: Tensor | closed_forms.Array) -> float:
    # hypot neither overflows nor loses digits where the sum of the squares does.
    return math.hypot(*gradient.flatten().tolist())


def has_nan_input(case: Case) -> bool:
    return any(x.isnan().any() for x in tensors(case))


def has_random_gradients(case: Case) -> bool:
    return case["function"] == "interpolated_gradient_penalty" and None in case["expected_grad"]


def wanted_gradients(case: Case) -> list[tuple[Any, float, str]]:
    """Gradient, its norm and the precision of both, for every argument."""
    wrong = case.get("defect", {}).get("grad", [False] * len(case["args"]))
    rows: list[tuple[Any, float, str]] = []
    for index, (gradient, norm) in enumerate(
        zip(case["expected_grad"], case["grad_norm"], strict=True)
    ):
        if wrong[index] or gradient is None:
            right = right_answer(case)[1][index]
            rows.append((right, length(right), "f64"))
        elif differences.OVERFLOWING_NORM.covers(case):
            rows.append((gradient, length(tensor(gradient)), gradient["dtype"]))
        else:
            rows.append((gradient, float(norm), gradient["dtype"]))
    return rows


PENALTY_CASES = cases(*PENALTIES)


@pytest.mark.parametrize(
    "case", parameters(case for case in PENALTY_CASES if not is_unknown_option(case))
)
def test_values_are_the_reference_s(case: Case) -> None:
    is_wrong = case.get("defect", {}).get("value", False)
    value, gradients = evaluate(case)
    assert_close(value, right_answer(case)[0] if is_wrong else case["expected"], case, "value")
    assert has_nan_input(case) or not any(gradient.isnan().any() for gradient in gradients)


@pytest.mark.parametrize(
    "case",
    parameters(
        case
        for case in PENALTY_CASES
        if not is_unknown_option(case) and not has_random_gradients(case)
    ),
)
def test_gradients_and_their_norms_are_the_reference_s(case: Case) -> None:
    _, gradients = evaluate(case)
    for index, (gradient, (want, norm, dtype)) in enumerate(
        zip(gradients, wanted_gradients(case), strict=True)
    ):
        assert_close(gradient, want, case, f"gradient {index}", dtype=dtype)
        assert_close(length(gradient), norm, case, f"norm of gradient {index}", dtype=dtype)


@pytest.mark.parametrize(
    "case", parameters(case for case in PENALTY_CASES if has_random_gradients(case))
)
def test_a_drawn_epsilon_shares_the_gradient_between_equal_ends(case: Case) -> None:
    # The file has no gradients here, for they depend on the draw; their sum does not.
    _, (one, other) = evaluate(case)
    x = tensors(case)[0].requires_grad_()
    penalties.gradient_penalty(critic(case), x, **options(case)).backward()
    assert_close(one + other, x.grad, case, "gradient")


@pytest.mark.parametrize("case", parameters(case for case in PENALTY_CASES if "defect" in case))
def test_every_defect_is_in_one_row_of_the_table(case: Case) -> None:
    assert differences.defect_of(case).ours


@pytest.mark.parametrize(
    "case", parameters(case for case in PENALTY_CASES if is_unknown_option(case))
)
def test_unknown_options_that_the_reference_ignores_are_refused(case: Case) -> None:
    with pytest.raises((TypeError, ValueError), match=r"must be one of|unexpected keyword"):
        evaluate(case)


@pytest.mark.parametrize(
    "case", parameters(case for case in cases("raises") if case["target"] in PENALTIES)
)
def test_what_the_reference_refuses_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        PENALTIES[case["target"]](*tensors(case), **options(case))


@pytest.mark.parametrize("case", parameters(cases("validate")))
def test_validate_finds_what_the_reference_finds(case: Case) -> None:
    (x,) = tensors(case)
    assert penalties.finiteness(x).item() == ["ok", "nan", "inf"].index(case["expected"])
    if case["expected"] == "ok":
        assert penalties.validate(x) is x
    else:
        with pytest.raises(NonFiniteError) as caught:
            penalties.validate(x)
        assert caught.value.kind == case["expected"]


@pytest.mark.parametrize("case", parameters(cases("weight_schedule")))
def test_schedules_give_the_reference_s_weights(case: Case) -> None:
    total = case["total_epochs"]
    made = {
        name: SCHEDULES[kind](total, *arguments)
        for name, (kind, *arguments) in case["schedules"].items()
    }
    for row in case["expected"]:
        got = {name: schedule(row["epoch"]) for name, schedule in made.items()}
        assert got.keys() == row["weights"].keys()
        for name, weight in row["weights"].items():
            assert_close(got[name], weight, case, "value")


def test_the_file_has_as_many_cases_as_it_says() -> None:
    counts = Counter(case["function"] for case in document()["cases"])
    assert counts == document()["meta"]["counts"]


def test_no_row_of_the_table_has_outlived_its_reason() -> None:
    known = cases(*PENALTIES, path=COPY)
    defects = [case for case in known if "defect" in case]
    rows = [*((row, defects) for row in differences.DEFECTS)]
    rows += [(differences.UNKNOWN_OPTION, known), (differences.OVERFLOWING_NORM, known)]
    assert [row.what for row, among in rows if not any(map(row.covers, among))] == []
