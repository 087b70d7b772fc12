import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from penaltyscope.penalties import gradient_penalty, interpolated_gradient_penalty
from tests.lib.penalties.calls import X, Y, cubic


def test_values_by_hand() -> None:
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    # ∇ Σx² = 2x, of length 10.
    assert gradient_penalty(lambda t: t.square().sum(), x).item() == 81.0
    assert gradient_penalty(lambda t: t.square().sum(), x, target_norm=10.0).item() == 0.0
    assert gradient_penalty(torch.sum, x).item() == pytest.approx((math.sqrt(2) - 1) ** 2)


def test_per_sample_is_the_mean_over_samples() -> None:
    x = torch.tensor([[3.0, 4.0], [0.5, 0.0]], dtype=torch.float64)
    got = gradient_penalty(lambda t: t.square().sum(-1), x, per_sample=True)
    assert got.item() == pytest.approx(((10 - 1) ** 2 + 0) / 2)
    # One norm over everything is another number.
    together = gradient_penalty(lambda t: t.square().sum(-1), x)
    assert together.item() == pytest.approx((math.sqrt(101) - 1) ** 2)


def test_gradients_reach_the_input_and_the_critic() -> None:
    critic = nn.Linear(4, 1).double()
    x = X.clone().requires_grad_()

    def score(t: Tensor) -> Tensor:
        scores: Tensor = critic(t)
        return scores.tanh().sum()

    gradient_penalty(score, x).backward()
    (slope,) = torch.autograd.grad(score(x), x, create_graph=True)
    want = (slope.norm() - 1).square()
    assert critic.weight.grad is not None
    wanted = torch.autograd.grad(want, (x, critic.weight))
    torch.testing.assert_close((x.grad, critic.weight.grad), wanted)


def test_an_input_that_needs_no_gradient_still_trains_the_critic() -> None:
    critic = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    gradient_penalty(lambda t: critic(t).sum(), X).backward()
    assert not X.requires_grad
    assert any(p.grad is not None and p.grad.any() for p in critic.parameters())


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_vanishing_gradient_costs_the_target_and_has_no_slope(per_sample: bool) -> None:
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = gradient_penalty(cubic, x, target_norm=3.0, per_sample=per_sample)
    value.backward()
    assert value.item() == 9.0
    assert x.grad is not None
    assert not x.grad.any()


class OldSquare(torch.autograd.Function):
    """Written before torch.func, which refuses it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        return 2 * slope * x


def test_a_measurement_without_gradients_keeps_no_graph() -> None:
    modes = []

    class Spy(OldSquare):
        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
            modes.append(torch.is_grad_enabled())  # on where the gradient is to be differentiated
            return OldSquare.backward(ctx, slope)

    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            gradient_penalty(lambda t: Spy.apply(t).sum(), X)  # type: ignore[no-untyped-call]
    assert modes == [True, False]


def critics() -> dict[str, Callable[[Tensor], Tensor]]:
    layer = nn.Linear(4, 4).double()
    hooked = nn.Linear(4, 4).double()
    hooked.register_full_backward_hook(lambda *_: None)
    return {
        "running statistics": nn.Sequential(layer, nn.BatchNorm1d(4).double()),
        "checkpointing": lambda x: checkpoint(lambda t: layer(t).tanh(), x, use_reentrant=False),
        "an old autograd function": lambda x: OldSquare.apply(layer(x)),  # type: ignore[no-untyped-call]
        "backward hooks": hooked,
        "spectral norm": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4).double()),
        "dropout": nn.Sequential(layer, nn.Dropout(0.5)),
    }


@pytest.mark.parametrize("name", critics())
def test_real_critics_are_taken(name: str) -> None:
    critic = critics()[name]
    value = gradient_penalty(lambda t: critic(t).sin().sum(), X)
    value.backward()
    assert value.isfinite()


def test_a_critic_without_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="fn must return a tensor that depends differentiably"):
        gradient_penalty(lambda t: t.detach().sum(), X)


def test_a_critic_that_ignores_its_input_has_no_slope() -> None:
    weight = torch.ones(3, requires_grad=True)
    assert gradient_penalty(lambda _: weight.sum(), X).item() == 1.0


def test_a_half_precision_critic_gets_half_precision() -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return x.square().sum()

    x = torch.full((4,), 100.0, dtype=torch.bfloat16)
    for value in (gradient_penalty(critic, x), interpolated_gradient_penalty(critic, x, x)):
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx((400 - 1) ** 2, rel=1e-2)
    assert seen == [torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_reaches_either_end_exactly(epsilon: float) -> None:
    small, large = X * 1e-20, Y * 1e20  # beside the large end, the small one is a rounding error
    for x, y in ((small, large), (large, small)):
        got = interpolated_gradient_penalty(cubic, x, y, epsilon=epsilon)
        assert torch.equal(got, gradient_penalty(cubic, x if epsilon else y))


def test_epsilon_shares_the_gradient_between_the_ends() -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    interpolated_gradient_penalty(cubic, x, y, epsilon=0.25).backward()
    middle = (0.25 * X + 0.75 * Y).requires_grad_()
    gradient_penalty(cubic, middle).backward()
    assert middle.grad is not None
    torch.testing.assert_close([x.grad, y.grad], [0.25 * middle.grad, 0.75 * middle.grad])


def test_an_epsilon_per_sample_is_that_of_each_sample() -> None:
    shares = torch.tensor([0.0, 0.3, 1.0])  # single precision, as a critic's scores are not
    got = interpolated_gradient_penalty(cubic, X, Y, epsilon=shares, per_sample=True)
    each = [
        interpolated_gradient_penalty(cubic, x, y, epsilon=share)
        for x, y, share in zip(X, Y, shares.double().tolist(), strict=True)
    ]
    torch.testing.assert_close(got, torch.stack(each).mean())


def test_draws_follow_the_generator_and_stay_between_the_ends() -> None:
    points: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        points.append(x.detach())
        return x.square().sum()

    for seed in (1, 1, 2):
        drawn = torch.Generator().manual_seed(seed)
        interpolated_gradient_penalty(spy, X, Y, per_sample=True, generator=drawn)
    assert torch.equal(points[0], points[1])
    assert not torch.equal(points[0], points[2])
    share = (points[0] - Y) / (X - Y)
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert ((share >= 0) & (share <= 1)).all()
    assert not torch.isclose(share[0, 0], share[1, 0], rtol=1e-3)


def test_one_draw_serves_the_whole_tensor_unless_per_sample() -> None:
    points: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        points.append(x.detach())
        return x.square().sum()

    interpolated_gradient_penalty(spy, X, Y, generator=torch.Generator().manual_seed(3))
    share = (points[0] - Y) / (X - Y)
    torch.testing.assert_close(share, share[:1, :1].expand_as(share))


def test_draws_differ_under_vmap_where_that_is_asked_for() -> None:
    batch = torch.stack([X, X])
    values = torch.vmap(
        lambda x: interpolated_gradient_penalty(cubic, x, Y), randomness="different"
    )(batch)
    assert values[0] != values[1]


def test_no_samples_cost_nothing() -> None:
    empty = torch.zeros(0, 3)
    assert gradient_penalty(lambda t: t.square().sum(), empty, per_sample=True).item() == 0.0
    assert gradient_penalty(lambda t: t.square().sum(), empty).item() == 1.0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"target_norm must be finite, at least 0, got -1\.0\."):
        gradient_penalty(cubic, X, target_norm=-1.0)
    with pytest.raises(ValueError, match=r"epsilon must be finite, at least 0 and at most 1"):
        interpolated_gradient_penalty(cubic, X, Y, epsilon=1.5)
    with pytest.raises(ValueError, match=r"epsilon must have a leading part of .*, got \(4,\)\."):
        interpolated_gradient_penalty(cubic, X, Y, epsilon=torch.rand(4))
    with pytest.raises(ValueError, match=r"x and reference must have the same shape"):
        interpolated_gradient_penalty(cubic, X, Y[:2])
    with pytest.raises(ValueError, match="x must have a dimension of samples for per_sample"):
        gradient_penalty(cubic, torch.tensor(1.0), per_sample=True)
