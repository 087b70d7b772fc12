"""Closed forms and the split engine in one evaluation, held against the split engine alone."""

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from tests.lib.pipelines import cubes, poison, squares

TERMS = [
    ps.Term("l1", ps.l1, weight=0.3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=-0.7, inputs=("student", "teacher")),
    ps.Term("entropy", ps.entropy, weight=2.0, inputs=("teacher",), options={"temperature": 2.0}),
    ps.Term("orthogonality", ps.orthogonality, weight=0.1, inputs=("student",)),
]
OWN = [
    ps.Term("squares", squares, weight=0.5, inputs=("student",)),
    ps.Term("cubes", cubes, weight=0.05, inputs=("third",)),
]
Inputs = Mapping[str, Tensor]


def inputs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {name: torch.randn(6, 5, dtype=torch.float64) for name in ("student", "teacher")}
    tensors = {name: x.log_softmax(-1).requires_grad_() for name, x in made.items()}
    return {**tensors, "third": torch.randn(4, dtype=torch.float64, requires_grad=True)}


def opaque(term: ps.Term) -> ps.Term:
    """The same, but nobody can know that it has a closed form."""
    return ps.Term(
        term.name,
        partial(term.penalty),
        weight=term.weight,
        inputs=term.inputs,
        options=term.options,
        enabled=term.enabled,
        differentiable=term.differentiable,
    )


def outcome(
    terms: Sequence[ps.Term], given: Inputs, *, conflict: bool = False
) -> dict[str, Tensor]:
    pipeline = ps.Pipeline(terms, conflict=conflict)
    leaves = {name: x.detach().clone().requires_grad_() for name, x in given.items()}
    result = pipeline(**leaves, base=torch.tensor(3.0, dtype=torch.float64))
    (result.loss * 8).backward()
    return {
        "total": result.total,
        "loss": result.loss,
        "values": result.values,
        "contributions": result.contributions,
        "norms": result.gradient_norms,
        "total norm": result.total_gradient_norm,
        "shares": result.gradient_shares,
        "conflict": result.gradient_conflict,
        **{f"norms by {name}": x for name, x in result.gradient_norms_by_input.items()},
        **{f"gradient by {n}": x.grad for n, x in leaves.items() if x.grad is not None},
    }


MIXTURES = {
    "built in alone": TERMS,
    "beside the user's own": [*TERMS, *OWN],
    "in any order": [OWN[0], TERMS[1], OWN[1], TERMS[0]],
    "one that is disabled": [
        *TERMS,
        ps.Term("off", ps.l2, inputs=("student",), enabled=False),
        OWN[0],
    ],
    "one of weight zero": [*TERMS, ps.Term("idle", ps.l2, weight=0.0, inputs=("student",)), OWN[0]],
    "one that is not differentiable": [
        *TERMS,
        ps.Term("count", ps.l2, inputs=("student",), differentiable=False),
    ],
    "a weight that is a tensor": [
        *TERMS,
        ps.Term("l2", ps.l2, weight=torch.tensor(0.25), inputs=("student",)),
    ],
}


@pytest.mark.parametrize("conflict", [False, True])
@pytest.mark.parametrize("terms", MIXTURES.values(), ids=MIXTURES.keys())
def test_closed_forms_change_nothing_but_the_price(terms: list[ps.Term], conflict: bool) -> None:
    got = outcome(terms, inputs(), conflict=conflict)
    want = outcome([opaque(term) for term in terms], inputs(), conflict=conflict)
    assert got.keys() == want.keys()
    for name, expected in want.items():
        torch.testing.assert_close(got[name], expected, equal_nan=True, rtol=1e-9, atol=1e-12)


def test_built_in_terms_know_their_norms_before_the_backward_pass() -> None:
    result = ps.Pipeline(TERMS)(**inputs())
    before = result.gradient_norms
    assert before.isfinite().all()
    result.loss.backward()
    torch.testing.assert_close(result.gradient_norms, before, rtol=0, atol=0)


def test_a_term_of_the_users_own_leaves_the_others_fused() -> None:
    given = inputs()
    result = ps.Pipeline([*TERMS, *OWN])(**given)
    before = result.gradient_norms
    assert before[: len(TERMS)].isfinite().all()
    assert before[len(TERMS) :].isnan().all()
    assert result.total_gradient_norm.isnan()
    result.loss.backward()
    assert result.gradient_norms.isfinite().all()
    squared = [x.grad.square().sum() for x in given.values() if x.grad is not None]
    torch.testing.assert_close(result.total_gradient_norm, torch.stack(squared).sum().sqrt())


def test_options_of_one_call_reach_closed_forms_and_are_forgotten() -> None:
    pipeline, given = ps.Pipeline(TERMS), inputs()
    plain = pipeline(**given).values
    changed = pipeline(**given, options={"l1": {"scale": 2.0}}).values
    torch.testing.assert_close(changed[0], 2 * plain[0])
    torch.testing.assert_close(changed[1:], plain[1:])
    torch.testing.assert_close(pipeline(**given).values, plain)


@pytest.mark.parametrize("term", [ps.Term("bad", poison), ps.Term("bad", poison, weight=0.0)])
def test_closed_forms_beside_a_poisoned_term_keep_their_norms(term: ps.Term) -> None:
    x = torch.ones(3, requires_grad=True)
    result = ps.Pipeline([ps.Term("l2", ps.l2), term])(x)
    result.loss.backward()
    assert result.gradient_norms[0].item() == pytest.approx(12**0.5)
    assert result.gradient_norms[1].isnan()
    assert x.grad is not None
    assert x.grad.isfinite().all() == (term.weight == 0)


def test_a_norm_that_float32_cannot_hold_is_not_infinite_in_the_row() -> None:
    x = torch.full((4,), 3e38, requires_grad=True)
    result = ps.Pipeline([ps.Term("l1", ps.l1), ps.Term("l2", ps.l2, weight=1e-3)])(x)
    norms = result.statistics.row[-4:-2]
    torch.testing.assert_close(norms.float()[0], torch.tensor(2.0))
    assert norms[1].item() == pytest.approx(12e38)


@pytest.mark.parametrize("weight", [10.0, -10.0, 1e300, torch.tensor(10.0, requires_grad=True)])
@pytest.mark.parametrize("beside", [[], [ps.Term("own", squares, weight=0.0)]])
def test_what_does_not_fit_is_infinite_as_in_plain_arithmetic(
    weight: float | Tensor, beside: list[ps.Term]
) -> None:
    # 16 squares of 1e19 do not fit into float32, a training run that diverges comes by here.
    x = torch.full((4, 4), 1e19, requires_grad=True)
    result = ps.Pipeline([ps.Term("l2", ps.l2, weight=weight), *beside])(x)
    result.loss.backward()
    assert x.grad is not None
    plain = (weight * torch.full((4, 4), 2e19)).detach()
    torch.testing.assert_close(x.grad, plain)
    assert result.total.item() == plain[0, 0].sign().item() * torch.inf


def test_a_bfloat16_value_of_the_users_own_stands_beside_closed_forms() -> None:
    x = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    terms = [ps.Term("own", lambda x: x.sum()), ps.Term("l1", ps.l1)]
    result = ps.Pipeline(terms)(x)
    result.loss.backward()
    assert result.values.tolist() == [4.0, 4.0]
    assert result.gradient_norms.tolist() == [2.0, 2.0]


def test_a_pipeline_can_be_copied_and_pickled_after_use() -> None:
    pipeline, given = ps.Pipeline(TERMS, name="p"), inputs()
    want = pipeline(**given).values
    torch.testing.assert_close(copy.deepcopy(pipeline)(**given).values, want)
    file = io.BytesIO()
    torch.save(pipeline, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(**given).values, want)


def test_a_pipeline_can_be_copied_after_a_weight_that_was_computed() -> None:
    given, weight = inputs(), torch.ones((), requires_grad=True)
    pipeline = ps.Pipeline(OWN)
    pipeline.set_weight("squares", weight * 2)
    pipeline(**given)
    pipeline.set_weight("squares", 2.0)
    values = copy.deepcopy(pipeline)(**given).values
    assert values.tolist() == pipeline(**given).values.tolist()


def test_second_derivatives_pass_through_closed_forms_and_the_users_own() -> None:
    given = inputs()
    x = given["student"]

    def second(terms: Sequence[ps.Term]) -> Tensor:
        loss = ps.Pipeline(terms)(**given).loss
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        (found,) = torch.autograd.grad(first.square().sum(), x)
        return found

    torch.testing.assert_close(second([*TERMS, *OWN]), second([*map(opaque, [*TERMS, *OWN])]))


@pytest.mark.parametrize("penalty", [ps.l1, squares], ids=["fused", "split"])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_total_to_which_nothing_contributes_can_be_differentiated(
    penalty: Callable[..., Tensor], enabled: bool
) -> None:
    x = torch.ones(3, requires_grad=True)
    weight = ps.schedules.warmup(1.0, steps=2)
    pipeline = ps.Pipeline([ps.Term("one", penalty, weight=weight, enabled=enabled)])
    pipeline(x).total.backward()
    assert x.grad is None or not x.grad.any()
    assert not pipeline(x.detach()).total.requires_grad
    with torch.no_grad():
        assert not pipeline(x).total.requires_grad
