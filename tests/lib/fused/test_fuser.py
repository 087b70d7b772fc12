"""Which calls are fused, how plans are reused, and what an evaluation costs in operations."""

from typing import Any

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from benchmarks.terms import TERMS
from penaltyscope import penalties
from penaltyscope._fused import Call, Fuser
from penaltyscope._scalar import extremes
from tests.lib.fused.plainly import assert_same
from tests.lib.penalties.calls import P, Q
from tests.lib.test_cost import counted, teacher

INPUTS = {"student": 0, "teacher": 1}
CALLS = [
    Call(term.penalty, tuple(INPUTS[name] for name in term.inputs), term.options) for term in TERMS
]
WEIGHTS = [float(term.weight) for term in TERMS]  # type: ignore[arg-type]


def evaluate(
    fuser: Fuser, calls: list[Call], tensors: list[Tensor], weights: list[Any] | None = None
) -> Any:  # noqa: ANN401
    return fuser(
        calls,
        tensors,
        weights or [1.0] * len(calls),
        extremes=[extremes(x) for x in tensors],
    )


def plans(fuser: Fuser) -> int:
    return sum(len(own) for by_kind in fuser._plans.values() for own in by_kind.values())


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Tensor:
        return x.sum()


ONE, ROW = P.clone(), P[0].clone()
REFUSED = {
    "a function of the user's": (Call(lambda x: x.sum(), (0,), {}), [ONE]),
    "an object that cannot be hashed": (Call(Unhashable(), (0,), {}), [ONE]),
    "a penalty without a closed form": (Call(penalties.group_lasso, (0,), {}), [ONE]),
    "values by position": (Call(penalties.entropy, (0,), {"reduction": "none"}), [ONE]),
    "shapes that broadcast": (Call(penalties.kl_divergence, (0, 1), {}), [ONE, ROW]),
    "dtypes that promote": (Call(penalties.js_divergence, (0, 1), {}), [ONE, Q.float()]),
    "one tensor twice": (Call(penalties.consistency, (0, 0), {}), [ONE]),
    "too few tensors": (Call(penalties.kl_divergence, (0,), {}), [ONE]),
    "integers": (Call(penalties.l1, (0,), {}), [torch.arange(3)]),
    "an empty tensor": (Call(penalties.l1, (0,), {}), [torch.ones(0, 3)]),
    "a number": (Call(penalties.l1, (0,), {}), [torch.ones(())]),
    "an unknown center": (Call(penalties.l2, (0,), {"center": "median"}), [ONE]),
    "an option of an odd type": (Call(penalties.l1, (0,), {"scale": [1.0]}), [ONE]),
}


@pytest.mark.parametrize(("call", "tensors"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_closed_form_is_left_to_others(call: Call, tensors: list[Tensor]) -> None:
    assert evaluate(Fuser(), [call], tensors) is None
    other = torch.ones(2, 2, requires_grad=True)
    calls = [Call(penalties.l2, (len(tensors),), {}), call]
    fusion = evaluate(Fuser(), calls, [*tensors, other])
    # The rest is fused all the same.
    assert fusion.taken == (0,)
    assert fusion.total([*tensors, other]).item() == 4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (Call(penalties.l1, (0,), {"scale": "1"}), TypeError, "scale must be a number, got str"),
        (Call(penalties.l1, (0,), {"scal": 1.0}), TypeError, "unexpected keyword argument 'scal'"),
        (Call(penalties.l2, (0,), {"clip": -1.0}), ValueError, "clip must be positive"),
        (Call(penalties.l1, (0,), {"reduction": "max"}), ValueError, "reduction must be one of"),
        (Call(penalties.entropy, (0,), {"reduction": "max"}), ValueError, "reduction must be one"),
        (Call(penalties.entropy, (0,), {"mode": "both"}), ValueError, "mode must be one of"),
        (Call(penalties.entropy, (0,), {"temperature": 0}), ValueError, "temperature must be"),
        (Call(penalties.orthogonality, (0,), {"axis": "x"}), ValueError, "axis must be one of"),
        (Call(penalties.consistency, (0, 1), {"metric": "x"}), ValueError, "metric must be one"),
        (Call(penalties.l1, (0,), {"mask": [True]}), TypeError, "mask must be a boolean tensor"),
        (
            Call(penalties.entropy, (0,), {"mask": torch.ones(3, 4, dtype=torch.bool)}),
            ValueError,
            "mask must have",
        ),
        (
            Call(penalties.orthogonality, (0,), {"mask": torch.ones(2, dtype=torch.bool)}),
            ValueError,
            "mask must have",
        ),
    ],
)
def test_mistakes_are_named_as_the_penalty_names_them(
    call: Call, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call([P, Q])
    with pytest.raises(error, match=message):
        evaluate(Fuser(), [call], [P, Q])


def test_a_plan_serves_every_step_and_batch_size() -> None:
    fuser = Fuser()
    for rows in (3, 5, 200):
        xs = [torch.randn(rows, 4, dtype=torch.float64).log_softmax(-1) for _ in range(2)]
        assert_same(CALLS, [x.requires_grad_() for x in xs], WEIGHTS, fuser=fuser)
    assert plans(fuser) == 1


def test_a_plan_is_not_used_where_it_does_not_hold() -> None:
    fuser = Fuser()
    ordinary = [P.clone().requires_grad_(), Q.clone().requires_grad_()]
    unlikely = [P.clone(), Q.clone().requires_grad_()]
    unlikely[0][0, 0] = -40
    impossible = [P.clone().requires_grad_(), Q.clone()]
    impossible[1][1, 1] = -torch.inf
    for xs in (ordinary, unlikely, impossible) * 2:
        # The magnitude and the norms of something infinite are compared elsewhere.
        calls = [call for call in CALLS if call.penalty not in (penalties.l1, penalties.l2)]
        assert_same(calls, xs, [1.0] * len(calls), fuser=fuser, tolerance=1e-11)
    assert plans(fuser) == 3


def test_masks_may_change_from_step_to_step() -> None:
    fuser, xs = Fuser(), [P.clone().requires_grad_(), Q.clone().requires_grad_()]
    for kept in ([True, False, True], [False, True, True]):
        options = {"mask": torch.tensor(kept)}
        calls = [
            Call(penalties.kl_divergence, (0, 1), options),
            Call(penalties.l1, (0,), options),
            Call(penalties.entropy, (0,), {"mask": torch.tensor(kept[::-1])}),
            Call(penalties.orthogonality, (1,), {}),
        ]
        assert_same(calls, xs, [1.0, 2.0, 3.0, 4.0], fuser=fuser)
    assert plans(fuser) == 1


def test_options_and_activity_make_other_plans() -> None:
    fuser, xs = Fuser(), [P.clone().requires_grad_()]
    for scale, weight in ((1.0, 1.0), (2.0, 1.0), (2.0, 0.0), (1.0, 1.0)):
        calls = [Call(penalties.l1, (0,), {"scale": scale}), Call(penalties.l2, (0,), {})]
        assert_same(calls, xs, [weight, 1.0], fuser=fuser)
    assert plans(fuser) == 3


def test_plans_do_not_pile_up() -> None:
    fuser, xs = Fuser(), [P.clone().requires_grad_()]
    for i in range(200):
        assert_same([Call(penalties.l1, (0,), {"scale": i / 7})], xs, [1.0], fuser=fuser)
    assert plans(fuser) <= 64


def test_tensors_of_several_shapes_and_precisions_are_fused_together(way: str) -> None:
    tensors = [
        P.clone().requires_grad_(),
        torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5).requires_grad_(),
        Q.clone(),
        torch.linspace(0, 1, 12).view(3, 4).requires_grad_(),
    ]
    calls = [
        Call(penalties.kl_divergence, (0, 2), {}),
        Call(penalties.l2, (1,), {"center": "mean"}),
        Call(penalties.l1, (3,), {}),
        Call(penalties.output_magnitude_penalty, (1,), {"target": 2.0}),
        Call(penalties.consistency, (2, 0), {}),
    ]
    fusion = assert_same(calls, tensors, [1.0, 2.0, 3.0, 4.0, 5.0], tolerance=1e-6)
    assert fusion.solution.dtype == torch.float64


def test_it_takes_less_than_half_the_operations() -> None:
    target, fuser = teacher(), Fuser()

    def fused(student: Tensor) -> None:
        tensors = [student, target]
        fusion = evaluate(fuser, CALLS, tensors, WEIGHTS)
        fusion.total(tensors).backward()

    def plain(student: Tensor) -> None:
        loss = torch.zeros(())
        for term in TERMS:
            tensors = (student if name == "student" else target for name in term.inputs)
            loss = loss + term.weight * term.penalty(*tensors, **term.options)  # type: ignore[operator]
        loss.backward()

    ours, theirs = counted(fused), counted(plain)
    assert ours.counts["_local_scalar_dense"] == 0
    ratio = ours.compute / theirs.compute
    assert ratio <= 0.36, f"{ratio:.3f} times the operations"


def test_shared_fields_are_computed_once() -> None:
    calls = [*CALLS, *CALLS, Call(ps.kl_divergence, (0, 1), {"reduction": "sum"})]
    target, fuser = teacher(), Fuser()

    def fused(student: Tensor) -> None:
        evaluate(fuser, calls, [student, target])

    # Both distributions, and the softened one; without the log_softmax that makes the student.
    assert counted(fused).counts["exp"] == 3
    assert counted(fused).counts["log"] == 1


def test_where_numbers_cannot_be_read_none_are(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    target, fuser = teacher(), Fuser()

    def fused(student: Tensor) -> None:
        if way == "on a device":
            for read in ("numpy", "tolist"):
                monkeypatch.setattr(Tensor, read, None)
        tensors = [student, target]
        evaluate(fuser, CALLS, tensors, WEIGHTS).total(tensors).backward()

    assert counted(fused).counts["_local_scalar_dense"] == 0
