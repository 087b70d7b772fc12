import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from penaltyscope.penalties import consistency, kl_divergence, orthogonality
from tests.lib import closed_forms
from tests.lib.penalties.calls import CONSTRAINT_CALLS, Call, P, Penalty, Q, X, Y
from tests.lib.penalties.strategies import log_probabilities, relaxed, tensors

Mode: TypeAlias = Literal["soft", "hard", "spectral"]
Metric: TypeAlias = Literal["mse", "l1", "cosine", "kl"]

MODES: tuple[Mode, ...] = ("soft", "hard", "spectral")
METRICS: tuple[Metric, ...] = ("mse", "l1", "cosine")
every_mode = pytest.mark.parametrize("mode", MODES)
every_metric = pytest.mark.parametrize("metric", [*METRICS, "kl"])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        # The Gram matrix has 5 and 25 on its diagonal and 11 beside it,
        ({"normalize": False}, 2 * 121.0),
        ({"normalize": False, "mode": "hard"}, 16.0 + 2 * 121 + 576),
        ({"normalize": False, "mode": "spectral"}, 28.0**2 + 2 * 121),
        ({}, 2 * 121 / 125),
        # and that of the columns 10 and 20, and 14.
        ({"axis": "vocabulary"}, 2 * 196 / 200),
    ],
)
def test_orthogonality_by_hand(options: dict[str, Any], want: float) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    assert orthogonality(x, **options).item() == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    ("metric", "want"),
    [("mse", (1 + 4) / 2), ("l1", (1 + 2) / 2), ("cosine", 1 - 14 / math.sqrt(5 * 40))],
)
def test_consistency_by_hand(metric: Metric, want: float) -> None:
    a, b = torch.tensor([1.0, 2.0]).double(), torch.tensor([2.0, 4.0]).double()
    b = torch.tensor([2.0, 6.0]).double() if metric == "cosine" else b
    assert consistency(a, b, metric=metric).item() == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("call", [c for c in CONSTRAINT_CALLS if "mask" not in c.options], ids=str)
def test_value_and_gradients_are_the_closed_forms(call: Call) -> None:
    leaves = [x.clone().requires_grad_() for x in call.tensors]
    value = call.bound(*leaves)
    formula = getattr(closed_forms, call.penalty.__name__)
    broadcast = "cosine" in call.name and leaves[0].shape != leaves[-1].shape
    given_arrays = [x.detach().numpy() for x in leaves]
    if broadcast:
        given_arrays[1] = np.broadcast_to(given_arrays[1], given_arrays[0].shape)
    want, slopes = formula(*given_arrays, **call.options)
    np.testing.assert_allclose(value.detach().numpy(), want, rtol=1e-11, atol=1e-14)
    gradients = torch.autograd.grad(value.sum(), leaves)
    for gradient, slope in zip(gradients, slopes, strict=True):
        slope = slope.sum(0) if slope.shape != tuple(gradient.shape) else slope
        np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-10, atol=1e-13)


@every_mode
@pytest.mark.parametrize("normalize", [True, False])
def test_orthonormal_rows_cost_exactly_nothing(mode: Mode, normalize: bool) -> None:
    rows = torch.eye(5)[[3, 0, 4]].requires_grad_()
    value = orthogonality(rows, mode=mode, normalize=normalize)
    value.backward()
    assert value.item() == 0.0
    assert rows.grad is not None
    assert not rows.grad.any()


def test_orthogonal_rows_of_any_length_cost_exactly_nothing_in_soft_mode() -> None:
    rows = torch.tensor([[3.0, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 1e-3]])
    for normalize in (True, False):
        assert orthogonality(rows, normalize=normalize).item() == 0.0


def test_near_orthogonal_rows_keep_their_digits() -> None:
    # 1e-5 squared is lost in float32 beside the 1 of the diagonal.
    rows = torch.tensor([[1.0, 1e-5], [0.0, 1.0]])
    assert orthogonality(rows).item() == pytest.approx(2e-10, rel=1e-5)


@every_mode
def test_antiparallel_rows_are_as_bad_as_parallel_ones(mode: Mode) -> None:
    row = torch.tensor([1.0, 2.0, -1.0])
    parallel = orthogonality(torch.stack([row, row]), mode=mode)
    antiparallel = orthogonality(torch.stack([row, -row]), mode=mode)
    assert parallel.item() == antiparallel.item() == pytest.approx(2.0)


@every_mode
def test_descent_leaves_antiparallel_rows_for_orthogonal_ones(mode: Mode) -> None:
    rows = torch.tensor([[1.0, 0.05], [-1.0, 0.05]], requires_grad=True)
    start = orthogonality(rows, mode=mode).item()
    for _ in range(200):
        value = orthogonality(rows, mode=mode)
        (slope,) = torch.autograd.grad(value, rows)
        with torch.no_grad():
            rows -= 0.05 * slope
    assert start > 1.9
    assert orthogonality(rows, mode=mode).item() < 1e-6


@every_mode
@pytest.mark.parametrize("shape", [(2, 3), (9, 3)])
def test_zero_rows_have_no_slope_and_spoil_no_other(mode: Mode, shape: tuple[int, int]) -> None:
    rows = torch.randn(shape, generator=generator(), dtype=torch.float64)
    rows[0] = 0.0
    rows.requires_grad_()
    value = orthogonality(rows, mode=mode)
    (first,) = torch.autograd.grad(value, rows, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), rows)
    assert first[0].tolist() == [0.0] * shape[1]
    assert first.isfinite().all()
    assert second.isfinite().all()
    want, (slope,) = closed_forms.orthogonality(rows.detach().numpy(), mode=mode)
    np.testing.assert_allclose(value.item(), want, rtol=1e-12)
    np.testing.assert_allclose(first.detach().numpy(), slope, rtol=1e-10, atol=1e-13)


@every_mode
def test_many_rows_take_the_narrow_way_to_the_same_number(mode: Mode) -> None:
    rows = torch.randn(64, 8, generator=generator(), dtype=torch.float64)
    for count in (15, 16, 64):  # 16 = 2 * 8 is the first that goes by columns
        want, (slope,) = closed_forms.orthogonality(rows[:count].numpy(), mode=mode)
        leaf = rows[:count].clone().requires_grad_()
        value = orthogonality(leaf, mode=mode)
        (gradient,) = torch.autograd.grad(value, leaf)
        np.testing.assert_allclose(value.item(), want, rtol=1e-12)
        np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-9, atol=1e-12)


class Shapes(TorchDispatchMode):
    """Collects the shape of every tensor that an operation returns."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        _types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.seen.add(tuple(result.shape))
        return result

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[tuple[int, ...]] = set()


@pytest.mark.parametrize(("count", "pairs"), [(15, True), (16, False)])
def test_twice_as_many_rows_as_features_go_by_columns(count: int, pairs: bool) -> None:
    with Shapes() as shapes:
        orthogonality(torch.ones(count, 8))
    assert ((count, count) in shapes.seen) is pairs
    assert ((8, 8) in shapes.seen) is not pairs


def test_rows_that_keep_their_lengths_keep_their_digits_beside_a_long_one() -> None:
    # By columns, 1e16 would be subtracted from 1e16 to find 6e-8.
    rows = torch.tensor([[1e4, 0.0], [0.0, 1e-2], [0.0, 1e-2], [0.0, 1e-2]])
    assert orthogonality(rows, normalize=False).item() == pytest.approx(6e-8, rel=1e-5)


def test_many_rows_do_not_need_a_matrix_of_all_pairs() -> None:
    rows = torch.randn(200_000, 4, generator=generator())  # all pairs would take 149 GiB
    # Directions at random: the mean squared cosine is 1 / 4.
    assert orthogonality(rows).item() == pytest.approx(200_000**2 / 4, rel=0.01)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)])
@every_mode
def test_orthogonality_of_nothing(mode: Mode, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, requires_grad=True)
    value = orthogonality(x, mode=mode)
    value.backward()
    # Rows without features are zero rows, which the other modes count as too short.
    rows = 0 if 0 in shape[:-1] else shape[0]
    assert value.item() == {"soft": 0, "hard": rows, "spectral": rows**2}[mode]


def test_a_vector_is_one_row() -> None:
    assert orthogonality(torch.tensor([3.0, 4.0])).item() == 0.0
    assert orthogonality(torch.tensor([3.0, 4.0]), mode="hard", normalize=False).item() == 24.0**2


def test_a_number_has_no_rows() -> None:
    with pytest.raises(ValueError, match="x must have at least one dimension, got a 0-d tensor"):
        orthogonality(torch.tensor(1.0))


@relaxed
@given(tensors((3, 4)), st.permutations(range(3)), st.permutations(range(4)))
def test_the_order_of_rows_and_features_does_not_matter(
    x: Tensor, rows: list[int], features: list[int]
) -> None:
    for mode in MODES:
        for normalize in (True, False):
            measure = partial(orthogonality, mode=mode, normalize=normalize)
            shuffled = measure(x[rows][:, features])
            torch.testing.assert_close(shuffled, measure(x), rtol=1e-9, atol=1e-9)


@relaxed
@given(tensors((3, 4)), tensors((3, 1), low=0.1, high=5))
def test_normalised_rows_do_not_depend_on_their_lengths(x: Tensor, lengths: Tensor) -> None:
    for mode in MODES:
        want = orthogonality(x, mode=mode)
        torch.testing.assert_close(orthogonality(x * lengths, mode=mode), want)
        assert 0 <= want.item() <= {"soft": 6, "hard": 9, "spectral": 15}[mode] + 1e-9


@relaxed
@given(tensors((3, 4), low=0.5))
def test_the_modes_coincide_for_unit_rows(x: Tensor) -> None:
    values = torch.stack([orthogonality(x, mode=mode) for mode in MODES])
    torch.testing.assert_close(values, values[:1].expand(3))


@relaxed
@given(tensors((3, 4)), tensors((3, 4)))
def test_disagreement_is_symmetric_and_not_negative(a: Tensor, b: Tensor) -> None:
    for metric in METRICS:
        value = consistency(a, b, metric=metric)
        torch.testing.assert_close(consistency(b, a, metric=metric), value)
        assert value.item() >= 0
    assert consistency(a, b, metric="cosine").item() <= 2 + 1e-12


@relaxed
@given(tensors(low=0.1))
def test_what_agrees_costs_nothing(a: Tensor) -> None:
    for metric in METRICS:
        leaf = a.clone().requires_grad_()
        value = consistency(leaf, a, metric=metric)
        value.backward()
        assert value.item() == 0.0
        torch.testing.assert_close(leaf.grad, torch.zeros_like(a), rtol=0, atol=1e-12)


@relaxed
@given(tensors((3, 4)), tensors((3, 4)), st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_cosine_depends_on_directions_alone(
    a: Tensor, b: Tensor, one: float, other: float
) -> None:
    want = consistency(a, b, metric="cosine")
    torch.testing.assert_close(consistency(one * a, other * b, metric="cosine"), want)


@relaxed
@given(log_probabilities(impossible=True), log_probabilities(impossible=True))
def test_consistency_by_kl_is_the_symmetric_divergence(p: Tensor, q: Tensor) -> None:
    for reduction in ("mean", "sum", "none"):
        options: Any = {"reduction": reduction}
        got = consistency(p, q, metric="kl", **options)
        assert torch.equal(got, kl_divergence(p, q, symmetric=True, **options))


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_the_cosine_is_right_where_squared_lengths_do_not_fit(size: float) -> None:
    a = torch.tensor([3.0, 4.0]).requires_grad_()
    value = consistency(a * size, torch.tensor([4.0, 3.0]) / size, metric="cosine")
    assert value.item() == pytest.approx(1 - 24 / 25, rel=1e-5)
    value.backward()
    want = closed_forms.consistency(np.array([3.0, 4.0]), np.array([4.0, 3.0]), metric="cosine")
    assert a.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), want[1][0], rtol=1e-4)


def test_a_zero_vector_has_cosine_zero_and_no_slope() -> None:
    zero, other = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    for a, b in ((zero, other), (other, zero), (zero, zero)):
        value = consistency(a, b, metric="cosine")
        first = torch.autograd.grad(value, (a, b), create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), zero)
        assert value.item() == 1.0
        for gradient in (*first, *second):
            torch.testing.assert_close(gradient, torch.zeros(3))


@every_metric
def test_a_nan_is_not_hidden(metric: Metric) -> None:
    a = torch.tensor([[-1.0, math.nan]])
    assert consistency(a, torch.tensor([[-1.0, -0.5]]), metric=metric).isnan()


@every_metric
def test_consistency_of_nothing(metric: Metric) -> None:
    a = torch.zeros(0, 3, requires_grad=True)
    value = consistency(a, torch.zeros(0, 3), metric=metric)
    value.backward()
    # Two empty vectors are zero vectors, whose cosine is 0.
    assert value.item() == (1.0 if metric == "cosine" else 0.0)


def test_none_is_per_element_or_per_position() -> None:
    assert consistency(X, Y, reduction="none").shape == X.shape
    assert consistency(X, Y, metric="l1", reduction="none").shape == X.shape
    assert consistency(P, Q, metric="kl", reduction="none").shape == P.shape[:1]
    assert consistency(X, Y, metric="cosine", reduction="none").shape == ()


def test_only_one_side_may_broadcast() -> None:
    torch.testing.assert_close(consistency(X, Y[0]), consistency(X, Y[:1].expand_as(X)))
    torch.testing.assert_close(consistency(Y[0], X), consistency(X, Y[0]))
    with pytest.raises(ValueError, match=r"a and b must have the same.*got \(3,\) and \(3, 1\)"):
        consistency(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"a and b must have the same.*got \(2, 3\) and \(2, 4\)"):
        consistency(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("penalty", "options", "message"),
    [
        (orthogonality, {"mode": "qr"}, "mode must be one of 'soft', 'hard', 'spectral', got 'qr'"),
        (orthogonality, {"axis": "columns"}, "axis must be one of 'rows', 'sequence', 'vocabul"),
        (consistency, {"metric": "huber"}, "metric must be one of 'mse', 'l1', 'cosine', 'kl'"),
        (consistency, {"reduction": "max"}, "reduction must be one of .*, got 'max'"),
    ],
)
def test_options_are_checked(penalty: Penalty, options: dict[str, Any], message: str) -> None:
    tensors = (X,) if penalty is orthogonality else (X, Y)
    with pytest.raises(ValueError, match=message):
        penalty(*tensors, **options)
