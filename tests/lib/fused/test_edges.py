"""Where masks, clamps and limits of the numbers decide, the fused engine decides likewise."""

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from penaltyscope import penalties
from penaltyscope._fused import Call, Fuser
from tests.lib.fused.plainly import QUICK, assert_same, found, fused, near
from tests.lib.penalties.strategies import log_probabilities, relaxed

INF, NAN = float("inf"), float("nan")
ROWS = torch.log_softmax(torch.linspace(-2, 3, 12, dtype=torch.float64).view(3, 4).sin() * 4, -1)
OTHER = torch.log_softmax(torch.linspace(1, -3, 12, dtype=torch.float64).view(3, 4).cos() * 3, -1)

SINGLES: list[tuple[Any, dict[str, object]]] = [
    (penalties.l1, {}),
    (penalties.l2, {}),
    (penalties.l2, {"clip": 2.0}),
    (penalties.l2, {"center": 0.5, "clip": 2.0}),
    (penalties.elastic_net, {"l1_ratio": 1.0}),
    (penalties.elastic_net, {"l1_ratio": 0.0}),
    (penalties.elastic_net, {}),
    (penalties.entropy, {}),
    (penalties.entropy, {"temperature": 2.0}),
    (penalties.entropy, {"temperature": 0.01}),
]
PAIRS: list[tuple[Any, dict[str, object]]] = [
    (penalties.kl_divergence, {}),
    (penalties.kl_divergence, {"direction": "reverse"}),
    (penalties.kl_divergence, {"symmetric": True}),
    (penalties.js_divergence, {}),
    (penalties.consistency, {"metric": "kl"}),
]
DIVERGENCES = [Call(f, (0, 1), o) for f, o in PAIRS] + [
    Call(f, (x,), o) for x in (0, 1) for f, o in SINGLES if f is penalties.entropy
]


def with_some(changes: dict[tuple[int, int], float], rows: Tensor = ROWS) -> Tensor:
    changed = rows.clone()
    for place, number in changes.items():
        changed[place] = number
    return changed


UNUSUAL = {
    "improbable": (with_some({(0, 1): -30.0}), OTHER),
    "improbable on both sides": (with_some({(0, 1): -24.0}), with_some({(0, 1): -25.0}, OTHER)),
    "as good as impossible": (with_some({(0, 1): -60.0, (1, 1): -50.0}), OTHER),
    "impossible": (with_some({(0, 1): -INF}), OTHER),
    "impossible on the other side": (ROWS, with_some({(0, 1): -INF, (2, 2): -2000.0}, OTHER)),
    "impossible on both sides": (with_some({(0, 1): -INF}), with_some({(0, 1): -INF}, OTHER)),
    "at the bound of the log-ratio": (with_some({(0, 0): 0.0}), with_some({(0, 0): -100.0}, OTHER)),
    "beyond that bound": (with_some({(0, 0): -0.5}), with_some({(0, 0): -101.0}, OTHER)),
    "certain": (with_some({(0, c): -INF for c in range(1, 4)} | {(0, 0): 0.0}), OTHER),
    "equal": (ROWS, ROWS.clone()),
    "without any class": (with_some({(0, c): -INF for c in range(4)}), OTHER),
}


@pytest.mark.parametrize("call", DIVERGENCES, ids=lambda c: f"{c.penalty.__name__}{c.options}")
@pytest.mark.parametrize("rows", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_log_probabilities(call: Call, rows: tuple[Tensor, Tensor], way: str) -> None:
    assert_same([call], [x.clone().requires_grad_() for x in rows], [1.5])


@relaxed
@given(log_probabilities(impossible=True), log_probabilities(impossible=True))
def test_impossible_classes_anywhere(p: Tensor, q: Tensor) -> None:
    calls = [call for call in DIVERGENCES if call.options.get("temperature") != 0.01]
    assert_same(calls, [p.requires_grad_(), q.requires_grad_()], [1.0] * len(calls), tolerance=1e-9)


@pytest.mark.parametrize("number", [NAN, INF, -INF, 1e200])
@pytest.mark.parametrize(("penalty", "options"), SINGLES)
def test_numbers_that_are_none(
    penalty: Any,  # noqa: ANN401
    options: dict[str, object],
    number: float,
    way: str,
) -> None:
    x = with_some({(1, 2): number}).requires_grad_()
    assert_same([Call(penalty, (0,), options)], [x], [1.0])


def test_what_a_mask_drops_may_be_anything(way: str) -> None:
    x = with_some({(1, 0): NAN, (1, 1): INF, (1, 2): -INF}).requires_grad_()
    y = with_some({(1, 0): INF, (1, 3): NAN}, OTHER).requires_grad_()
    kept = torch.tensor([True, False, True])
    calls = [Call(f, (0,), {**o, "mask": kept}) for f, o in SINGLES]
    calls += [Call(f, (0, 1), {**o, "mask": kept}) for f, o in PAIRS]
    assert_same(calls, [x, y], [1.0] * len(calls))


def test_a_mask_of_elements_drops_elements(way: str) -> None:
    x = with_some({(1, 0): NAN}).requires_grad_()
    kept = torch.ones(3, 4, dtype=torch.bool)
    kept[1, 0] = kept[2, 2] = False
    calls = [Call(f, (0,), {**o, "mask": kept}) for f, o in SINGLES if f is not penalties.entropy]
    assert_same(calls, [x], [1.0] * len(calls))


def test_nothing_kept_is_nothing(way: str) -> None:
    none = torch.zeros(3, dtype=torch.bool)
    x, y = ROWS.clone().requires_grad_(), OTHER.clone().requires_grad_()
    calls = [Call(f, (0,), {**o, "mask": none}) for f, o in SINGLES]
    calls += [Call(f, (0, 1), {**o, "mask": none}) for f, o in PAIRS]
    calls.append(Call(penalties.orthogonality, (0,), {"mask": none}))
    assert_same(calls, [x, y], [1.0] * len(calls))


@pytest.mark.parametrize("mode", ["soft", "hard", "spectral"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (9, 3), (3, 9), (1, 5)])
def test_rows_that_are_zero_or_equal(
    mode: str, normalize: bool, shape: tuple[int, int], way: str
) -> None:
    x = torch.arange(shape[0] * shape[1], dtype=torch.float64).view(shape).sin()
    x[0] = 0
    x[-1] = x[len(x) // 2]
    call = Call(penalties.orthogonality, (0,), {"mode": mode, "normalize": normalize})
    assert_same([call], [x.requires_grad_()], [1.0])


@pytest.mark.parametrize("mode", ["soft", "hard", "spectral"])
@pytest.mark.parametrize("shape", [(3, 3), (3, 9), (9, 3), (7, 1)])
def test_rows_along_the_axes(mode: str, shape: tuple[int, int], way: str) -> None:
    x = 2 * torch.eye(*shape, dtype=torch.float64).requires_grad_()
    call = Call(penalties.orthogonality, (0,), {"mode": mode})
    got = found(fused([call], [x], [1.0]))
    # The rows that are there are orthogonal and of length 1; of the others none is.
    missing = max(shape[0] - shape[1], 0)
    assert got.values.item() == {"soft": 0, "hard": missing, "spectral": missing**2}[mode]
    assert got.norms[0].item() == 0


@pytest.mark.parametrize("metric", ["mse", "l1", "cosine", "kl"])
def test_two_that_agree_have_no_gradient(metric: str, way: str) -> None:
    a, b = ROWS.clone().requires_grad_(), ROWS.clone().requires_grad_()
    fusion = fused([Call(penalties.consistency, (0, 1), {"metric": metric})], [a, b], [1.0])
    assert found(fusion).values.abs().max() == 0
    assert found(fusion).norms[0].abs().max() < 1e-15


def test_a_zero_vector_has_no_direction(way: str) -> None:
    call = Call(penalties.consistency, (0, 1), {"metric": "cosine"})
    zero, other = torch.zeros_like(ROWS), ROWS.clone()
    for pair in ((zero, other), (other, zero), (zero, zero.clone())):
        assert_same([call], [x.clone().requires_grad_() for x in pair], [1.0])


def test_a_single_class_has_no_entropy(way: str) -> None:
    x = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    calls = [Call(penalties.entropy, (0,), {"normalize": n}) for n in (True, False)]
    assert_same(calls, [x], [1.0, 1.0])


@pytest.mark.parametrize("shape", [(5,), (1, 1), (2, 1, 3, 2), (3, 0), ()])
def test_any_number_of_dimensions(shape: tuple[int, ...], way: str) -> None:
    x = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)
    if not (x.dim() and x.numel()):
        assert Fuser()([Call(penalties.l1, (0,), {})], [x], [1.0], extremes=[None]) is None
        return
    calls = [Call(penalties.l1, (0,), {}), Call(penalties.entropy, (0,), {"temperature": 2.0})]
    assert_same(calls, [x], [1.0, 1.0])


@pytest.mark.parametrize("size", [1e-25, 1e-20, 1e20, 1e25])
def test_norms_whose_squares_do_not_fit(size: float, way: str) -> None:
    x = (torch.linspace(1, 2, 100) * size).requires_grad_()
    calls = [Call(penalties.output_magnitude_penalty, (0,), {}), Call(penalties.l2, (0,), {})]
    got = found(fused(calls, [x], [1.0, 0.5]))
    length = x.detach().double().norm()
    slope = 2 * (length / 10 - 1).abs() / 10
    near(got.norms[0], torch.stack([slope, 2 * length]), QUICK)
    near(got.values[:1], (length / 10 - 1).square().float()[None].double(), QUICK)


@pytest.mark.parametrize("number", [1.1, 0.7])
def test_a_long_float32_sum_keeps_its_digits(number: float) -> None:
    x = torch.full((1 << 22,), number, requires_grad=True)
    calls = [
        Call(penalties.l2, (0,), {}),
        Call(penalties.l1, (0,), {}),
        Call(penalties.output_magnitude_penalty, (0,), {"target": 0.0}),
    ]
    got = found(fused(calls, [x], [1.0, 1.0, 1.0]))
    exact = x.detach().double()[0].item()
    count = float(x.numel())
    want = torch.tensor([exact**2 * count, exact * count, exact**2], dtype=torch.float64)
    near(got.values / want, torch.ones(3), QUICK)
    norms = torch.tensor([2 * exact * 2**11, 2**11, 2 * exact / 2**11], dtype=torch.float64)
    # Inner products are a little less exact than sums.
    near(got.norms[0] / norms, torch.ones(3), 2e-5)


def test_a_tiny_vector_has_the_gradient_of_its_direction() -> None:
    x = torch.full((4,), 1e-40, requires_grad=True)
    calls = [
        Call(penalties.output_magnitude_penalty, (0,), {}),
        Call(penalties.output_magnitude_penalty, (0,), {"reduction": "sum"}),
    ]
    (gradient,) = torch.autograd.grad(fused(calls, [x], [1.0, 1.0]).total([x]), x)
    # 2(m - 1)/(m n) exceeds float32, its product with x does not.
    near(gradient, torch.full((4,), -0.5 - 1.0), 1e-4)
