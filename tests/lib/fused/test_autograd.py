"""What autograd sees: gradients of anything the total depends on, of first and second order."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from benchmarks.operations import Operations
from penaltyscope import penalties
from penaltyscope._fused import Call
from tests.lib.fused.plainly import assert_same, found, fused, near
from tests.lib.fused.test_closed_forms import every_call, given_as
from tests.lib.penalties import calls as known

P, Q, X = known.P, known.Q, known.X
CALLS = [
    Call(penalties.l2, (0,), {}),
    Call(penalties.kl_divergence, (0, 1), {}),
    Call(penalties.js_divergence, (1, 0), {"reduction": "sum"}),
    Call(penalties.orthogonality, (1,), {}),
    Call(penalties.output_magnitude_penalty, (0,), {}),
]


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def plain(tensors: Sequence[Tensor], weights: Sequence[float | Tensor]) -> Tensor:
    return torch.stack([w * call(tensors) for w, call in zip(weights, CALLS, strict=True)]).sum()


@every_call
def test_second_derivatives_are_those_of_the_plain_function(call: known.Call) -> None:
    own, xs = given_as(call, torch.float64)

    def second(total: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(total * 0.5, xs, create_graph=True)
        squared = torch.stack([g.square().sum() for g in first]).sum()
        # A gradient that does not depend on the tensors, as that of L1, has no second one.
        if not squared.requires_grad:
            return tuple(torch.zeros_like(x) for x in xs)
        return torch.autograd.grad(squared, xs, materialize_grads=True, allow_unused=True)

    want = second(-0.7 * call.bound(*xs))
    for got, exact in zip(second(fused(own, xs, [-0.7]).total(xs)), want, strict=True):
        near(got, exact, 1e-11)


WEIGHTS = torch.tensor([0.5, -2.0, 1.0, 0.1, 3.0], dtype=torch.float64)


def test_weights_may_be_learned(way: str) -> None:
    xs = [leaf(P), leaf(Q)]
    weights = [leaf(w) if i % 2 else w.item() for i, w in enumerate(WEIGHTS)]
    learned = [w for w in weights if isinstance(w, Tensor)]
    got = torch.autograd.grad(fused(CALLS, xs, weights).total(xs), [*xs, *learned])
    want = torch.autograd.grad(plain(xs, weights), [*xs, *learned])
    torch.testing.assert_close(got, want)


def test_derivatives_by_tensors_and_weights_mix() -> None:
    xs = [leaf(P), leaf(Q)]
    weights = [leaf(w) for w in WEIGHTS]

    def mixed(total: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(total, [*xs, *weights], create_graph=True)
        squared = torch.stack([g.square().sum() for g in first]).sum()
        return torch.autograd.grad(squared, [*xs, *weights])

    got = mixed(fused(CALLS, xs, weights).total(xs))
    torch.testing.assert_close(got, mixed(plain(xs, weights)))


def test_weights_alone_may_be_learned() -> None:
    weights = [leaf(w) for w in WEIGHTS]
    total = fused(CALLS, [P, Q], weights).total([P, Q])
    got = torch.autograd.grad(total, weights)
    torch.testing.assert_close(torch.stack(got), torch.stack([call([P, Q]) for call in CALLS]))


def test_a_weight_in_half_precision_is_learned_too() -> None:
    weight = torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True)
    fused(CALLS[:1], [P, Q], [weight]).total([P, Q]).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, CALLS[0]([P, Q]).bfloat16())


@pytest.mark.parametrize("weight", [0.0, torch.tensor(0.0), torch.tensor(0.0, requires_grad=True)])
def test_a_weight_of_zero_keeps_a_term_out(weight: float | Tensor, way: str) -> None:
    poisoned = P.clone()
    poisoned[0, 0] = torch.nan
    xs = [leaf(P), leaf(poisoned)]
    calls = [Call(penalties.l2, (0,), {}), Call(penalties.kl_divergence, (0, 1), {})]
    fusion = assert_same(calls, xs, [0.5, weight])
    assert found(fusion).values[1].isnan()
    assert found(fusion).total.isfinite()
    total = fusion.total(xs)
    total.backward()
    if isinstance(weight, Tensor) and weight.requires_grad:
        assert weight.grad == 0
        weight.grad = None
    first = torch.autograd.grad(fused(calls, xs, [0.5, weight]).total(xs), xs[0], create_graph=True)
    assert torch.autograd.grad(first[0].sum(), xs[0])[0].isfinite().all()


def test_the_backward_pass_may_be_repeated_and_scaled() -> None:
    xs = [leaf(P), leaf(Q)]
    total = fused(CALLS, xs, [1.0] * 5).total(xs)
    once = torch.autograd.grad(total, xs, retain_graph=True)
    scaled = torch.autograd.grad(total, xs, torch.tensor(-3.0, dtype=torch.float64))
    torch.testing.assert_close(scaled, tuple(-3 * g for g in once))


def test_the_total_may_be_changed_in_place() -> None:
    xs = [leaf(P), leaf(Q)]
    fusion = fused(CALLS, xs, [1.0] * 5)
    before = fusion.solution.total
    total = fusion.total(xs)
    total /= 4
    got = torch.autograd.grad(total, xs)
    assert fusion.solution.total == before
    torch.testing.assert_close(got, torch.autograd.grad(plain(xs, [0.25] * 5), xs))


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_tensor_may_depend_on_another(create_graph: bool) -> None:
    x = leaf(X)

    def both(x: Tensor) -> list[Tensor]:
        hidden = torch.log_softmax(x.sin(), -1)
        return [hidden, torch.log_softmax(hidden.cos() * x, -1)]

    def gradient(total: Callable[[Sequence[Tensor]], Tensor]) -> Tensor:
        (first,) = torch.autograd.grad(total(both(x)), x, create_graph=create_graph)
        if not create_graph:
            return first
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return second

    got = gradient(lambda xs: fused(CALLS, xs, [1.0] * 5).total(xs))
    torch.testing.assert_close(got, gradient(lambda xs: plain(xs, [1.0] * 5)))


def test_aliases_serve_as_well() -> None:
    xs = [leaf(P), leaf(Q)]
    aliases = [x.view_as(x) for x in xs]
    got = torch.autograd.grad(fused(CALLS, xs, [1.0] * 5).total(aliases), xs)
    torch.testing.assert_close(got, torch.autograd.grad(plain(xs, [1.0] * 5), xs))


def test_without_grad_there_is_no_graph() -> None:
    xs = [leaf(P), leaf(Q)]
    with torch.no_grad():
        fusion = fused(CALLS, xs, [1.0] * 5)
        assert not fusion.total(xs).requires_grad
    assert not fusion.solution.gradients
    torch.testing.assert_close(found(fusion).values, torch.stack([c([P, Q]) for c in CALLS]))


def test_a_change_of_a_tensor_before_the_backward_pass_is_noticed() -> None:
    xs = [leaf(P).exp(), leaf(Q)]
    total = fused(CALLS[:1], xs, [1.0]).total(xs)
    xs[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_loss_scale_saves_half_precision() -> None:
    x = torch.full((64, 512), -6.25, dtype=torch.float16, requires_grad=True)
    call = Call(penalties.entropy, (0,), {})
    scale = 2.0**16
    (fused([call], [x], [1e-4]).total([x]) * scale).backward()
    assert x.grad is not None
    p = torch.tensor(-6.25).exp()
    want = 1e-4 * scale * p * (6.25 - 1) / 64
    torch.testing.assert_close(x.grad.float(), want.expand(64, 512), rtol=1e-3, atol=0)


def test_autocast_changes_nothing() -> None:
    xs = [x.float().requires_grad_() for x in (P, Q)]
    want = found(fused(CALLS, xs, [1.0] * 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = found(fused(CALLS, xs, [1.0] * 5))
    torch.testing.assert_close(got.values, want.values, rtol=0, atol=0)
    for a, b in zip(got.norms, want.norms, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_what_was_done_to_a_gradient_does_not_change_the_next_of_the_same_graph() -> None:
    xs = [leaf(P), leaf(Q)]
    total = fused(CALLS, xs, [1.0] * len(CALLS)).total(xs)
    want = [g.clone() for g in torch.autograd.grad(total, xs, retain_graph=True)]
    for g in torch.autograd.grad(total, xs, retain_graph=True):
        g.zero_()
    torch.testing.assert_close(torch.autograd.grad(total, xs), (*want,))


@pytest.mark.parametrize(("scale", "operations"), [(1.0, 0), (0.5, 2)])
def test_only_a_scale_is_multiplied_with(scale: float, operations: int) -> None:
    xs = [leaf(P), leaf(Q)]
    total = fused(CALLS, xs, [1.0] * len(CALLS)).total(xs)
    upstream = torch.full_like(total, scale)
    with Operations() as counting:
        torch.autograd.grad(total, xs, upstream)
    assert counting.compute == operations


def test_many_backward_passes_may_be_one() -> None:
    xs = [leaf(P), leaf(Q)]
    total = fused(CALLS, xs, [1.0] * len(CALLS)).total(xs)
    want = torch.autograd.grad(total, xs, retain_graph=True)
    scales = torch.tensor([1.0, -2.0], dtype=total.dtype)
    got = torch.autograd.grad(total, xs, scales, is_grads_batched=True)
    torch.testing.assert_close(got, tuple(torch.stack((g, -2.0 * g)) for g in want))
