"""What a graph computes, run step by step as it would be traced: tracing takes its time."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from penaltyscope import _scalar, penalties
from penaltyscope._compiled import Compiler, _compiler, _runner, _solution, _traced
from penaltyscope._fused import Call
from tests.lib.compiled.together import assert_same, compiled, gathered
from tests.lib.fused.plainly import near
from tests.lib.penalties import calls as known


@pytest.fixture(scope="module", autouse=True)
def known_to_the_compiler() -> None:
    """Lets the compiler look through torch, as it does once, before anything there is replaced."""
    torch.compile(torch.sin, backend="eager")(torch.ones(1))


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what would be compiled as it is; other tests trace it."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(_scalar, "on_host", lambda x: x.device.type == "cpu")
    for module in (_compiler, _solution):
        monkeypatch.setattr(module, "on_host", lambda x: x.device.type == "cpu")
    for module in (_runner, _traced):
        monkeypatch.setattr(module, "compiled_apart", lambda function, _: function)


P, Q = known.P, known.Q
WEIGHTS = [0.5, -2.0, 1.0]


def calls() -> list[Call]:
    return [
        Call(penalties.l2, (0,), {}),
        Call(penalties.kl_divergence, (0, 1), {}),
        Call(lambda x: x.pow(3).sum(), (1,), {}),
    ]


def pair(rows: int = 3) -> list[Tensor]:
    return [
        torch.randn(rows, 4, dtype=torch.float64).log_softmax(-1).requires_grad_() for _ in range(2)
    ]


def every(group: list[known.Call]) -> list[known.Call]:
    return [call for call in group if call.value().dim() == 0]


@pytest.mark.parametrize(
    "group",
    [known.NORM_CALLS, known.DIVERGENCE_CALLS, known.CONSTRAINT_CALLS],
    ids=["norms", "divergences", "constraints"],
)
def test_every_option_of_every_penalty_is_the_plain_function(group: list[known.Call]) -> None:
    together, tensors = gathered(every(group))
    weights = [0.5 + 0.1 * i for i in range(len(together))]
    assert_same(Compiler("eager"), together, tensors, weights, tolerance=1e-11, gram=False)


def test_user_terms_and_closed_forms_share_one_answer() -> None:
    assert_same(Compiler("eager"), calls(), pair(), WEIGHTS, tolerance=1e-12)


def test_impossible_classes_give_finite_numbers() -> None:
    xs = pair()
    with torch.no_grad():
        xs[0][0, 1], xs[1][2, 2] = -torch.inf, -torch.inf
    together = [
        Call(penalties.kl_divergence, (0, 1), {}),
        Call(penalties.kl_divergence, (1, 0), {"symmetric": True}),
        Call(penalties.js_divergence, (0, 1), {}),
        Call(penalties.entropy, (0,), {}),
        Call(penalties.entropy, (0,), {"temperature": 2.0}),
    ]
    assert_same(Compiler("eager"), together, xs, [1.0, 2, 3, 4, 5], tolerance=1e-12)


def test_second_derivatives_are_those_of_the_plain_functions() -> None:
    xs = pair()

    def second(total: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(total, xs, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), xs)

    plain = torch.stack([w * call(xs) for w, call in zip(WEIGHTS, calls(), strict=True)]).sum()
    found = compiled(Compiler("eager"), calls(), xs, WEIGHTS).fusion.total(xs)
    for got, want in zip(second(found), second(plain), strict=True):
        near(got, want, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype: torch.dtype) -> None:
    x = torch.full((64, 128), 30.0, dtype=dtype, requires_grad=True)
    together = [Call(penalties.l2, (0,), {}), Call(penalties.entropy, (0,), {"temperature": 3.0})]
    fusion = compiled(Compiler("eager"), together, [x], [1.0, 1.0]).fusion
    # Squares of the gradient sum to 3e7, far past float16.
    assert fusion.solution.norms[0, 0] == pytest.approx(60 * (64 * 128) ** 0.5, rel=1e-6)
    (gradient,) = torch.autograd.grad(fusion.total([x]), x)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_found(bad: float) -> None:
    xs = pair()
    with torch.no_grad():
        xs[1][2, 3] = bad
    found = compiled(Compiler("eager"), calls(), xs, WEIGHTS).ranges[1]
    assert found is not None
    low, high = found
    want = torch.stack(torch.aminmax(xs[1].detach()))
    near(torch.tensor([low, high], dtype=torch.float64), want, 0.0)


@pytest.mark.parametrize("weight", [0.0, torch.tensor(0.0), torch.tensor(0.0, requires_grad=True)])
def test_a_weight_of_zero_keeps_a_term_out(weight: float | Tensor) -> None:
    xs = pair()
    with torch.no_grad():
        xs[1][0, 0] = torch.nan
    fusion = compiled(Compiler("eager"), calls(), xs, [0.5, weight, 0.0]).fusion
    values = torch.tensor(fusion.solution.values, dtype=torch.float64)
    assert values.isnan().tolist() == [False, True, True]
    (gradient,) = torch.autograd.grad(fusion.total(xs), xs[0])
    near(gradient, xs[0].detach(), 1e-12)


def test_a_disabled_term_is_not_taken_and_cannot_poison() -> None:
    xs = pair()
    with torch.no_grad():
        xs[1][0, 0] = torch.nan
    enabled = [True, False, False]
    fusion = compiled(Compiler("eager"), calls(), xs, WEIGHTS, enabled=enabled).fusion
    assert fusion.taken == (0,)
    near(torch.autograd.grad(fusion.total(xs), xs[0])[0], xs[0].detach(), 1e-12)


def test_weights_may_be_learned() -> None:
    xs, weight = pair(), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    total = compiled(Compiler("eager"), calls(), xs, [weight, 1.0, 1.0]).fusion.total(xs)
    near(torch.autograd.grad(total, weight)[0], calls()[0](xs), 1e-12)


def test_a_norm_that_overflows_is_left_to_another_engine() -> None:
    x = torch.full((2, 100), 1e20, requires_grad=True)
    line = Call(lambda x: (x * 3e20).sum(), (0,), {})
    assert Compiler("eager")([line], [x], [1.0], enabled=[True]) is None


def test_mistakes_are_named_as_the_penalty_names_them() -> None:
    short = Call(penalties.l1, (0,), {"mask": torch.ones(7, dtype=torch.bool)})
    wrong = Call(penalties.entropy, (0,), {"temperature": 0})
    for call, message in ((short, "mask must have"), (wrong, "temperature must be positive")):
        with pytest.raises(ValueError, match=message):
            Compiler("eager")([call], pair(), [1.0], enabled=[True])


def test_tensors_without_memory_are_left_to_another_engine() -> None:
    with FakeTensorMode():
        xs = [torch.empty(3, 4, requires_grad=True) for _ in range(2)]
        assert Compiler("eager")(calls(), xs, WEIGHTS, enabled=[True] * 3) is None


def unlikely() -> list[Tensor]:
    """Log-probabilities with one that is as good as 0."""
    xs = pair()
    with torch.no_grad():
        xs[0][1, 2] = -2000.0
    return xs


def divergences() -> list[Call]:
    return [
        Call(penalties.kl_divergence, (0, 1), {}),
        Call(penalties.js_divergence, (0, 1), {}),
        Call(penalties.entropy, (0,), {}),
    ]


def test_tensors_that_are_not_as_the_first_ones_are_left_to_another_engine() -> None:
    compiler, together = Compiler("eager"), divergences()
    for _ in range(2):
        assert_same(compiler, together, pair(), WEIGHTS, tolerance=1e-12)
        assert compiler(together, unlikely(), WEIGHTS, enabled=[True] * 3, gram=True) is None


def test_after_some_of_them_there_is_a_graph_for_all_tensors() -> None:
    compiler, together = Compiler("eager"), divergences()
    assert_same(compiler, together, pair(), WEIGHTS, tolerance=1e-12, gram=False)
    for _ in range(_compiler._PATIENCE + 1):
        assert compiler(together, unlikely(), WEIGHTS, enabled=[True] * 3) is None
    assert_same(compiler, together, unlikely(), WEIGHTS, tolerance=1e-12, gram=False)


def test_nan_is_no_reason_for_another_graph() -> None:
    compiler, together = Compiler("eager"), divergences()
    assert_same(compiler, together, pair(), WEIGHTS, tolerance=1e-12, gram=False)
    xs = pair()
    with torch.no_grad():
        xs[0][1, 2] = torch.nan
    for _ in range(_compiler._PATIENCE + 2):
        assert compiler(together, xs, WEIGHTS, enabled=[True] * 3) is None


def test_a_nearly_certain_row_keeps_its_digits() -> None:
    logits = torch.full((2, 80), 10.0)
    logits[:, 3] = torch.tensor([31.0, 60.0])
    together = [Call(penalties.entropy, (0,), {"temperature": 2.0})]
    found = compiled(Compiler("eager"), together, [logits.requires_grad_()], [1.0]).fusion
    exact = logits.detach().double().requires_grad_()
    right = compiled(Compiler("eager"), together, [exact], [1.0]).fusion
    assert found.solution.values[0] == pytest.approx(right.solution.values[0], rel=1e-6)
    assert found.solution.norms[0, 0] == pytest.approx(right.solution.norms[0, 0], rel=1e-5)


def test_ranges_that_were_right_are_right_together() -> None:
    compiler, together = Compiler("eager"), divergences()
    for shift in (0.0, 1.0, -1.0, 0.5):
        xs = [(x.detach() + shift).requires_grad_() for x in pair()]
        assert_same(compiler, together, xs, WEIGHTS, tolerance=1e-12)
    assert compiler(together, unlikely(), WEIGHTS, enabled=[True] * 3, gram=True) is None
