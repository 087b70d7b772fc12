import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope import schedules
from penaltyscope.schedules import AdaptiveKL, Schedule
from tests.lib.penalties.strategies import relaxed

MADE: dict[str, Schedule] = {
    "constant(weight=0.5)": schedules.constant(0.5),
    "linear(start=0.0, end=1.0, steps=5)": schedules.linear(0.0, 1.0, steps=5),
    "warmup(weight=2.0, steps=4)": schedules.warmup(2.0, steps=4),
    "decay(weight=1.0, rate=0.5)": schedules.decay(1.0, rate=0.5),
    "cosine(start=1.0, end=0.0, steps=5)": schedules.cosine(1.0, 0.0, steps=5),
    "piecewise(steps=(0, 3), weights=(1.0, 0.1))": schedules.piecewise({3: 0.1, 0: 1.0}),
    "cyclic(low=0.0, high=1.0, period=4, ramp=0.5)": schedules.cyclic(0.0, 1.0, period=4),
    "after(start=2, then=constant(weight=3.0))": schedules.after(2, 3.0),
}
every_schedule = pytest.mark.parametrize(("shown", "schedule"), MADE.items(), ids=MADE)


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        (schedules.constant(0.5), [0.5] * 8),
        (schedules.linear(0.0, 1.0, steps=5), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (schedules.linear(1.0, 0.0, steps=1), [1, 0, 0, 0, 0, 0, 0, 0]),
        (schedules.warmup(2.0, steps=4), [0, 0.5, 1, 1.5, 2, 2, 2, 2]),
        (schedules.warmup(2.0, steps=0), [2] * 8),
        (schedules.decay(1.0, rate=0.5), [1, 0.5, 0.25, 0.125, 1 / 16, 1 / 32, 1 / 64, 1 / 128]),
        (
            schedules.cosine(1.0, 0.0, steps=5),
            [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0, 0, 0, 0],
        ),
        (schedules.piecewise({0: 1.0, 3: 0.1, 5: -2.0}), [1, 1, 1, 0.1, 0.1, -2, -2, -2]),
        (schedules.cyclic(0.0, 1.0, period=4), [0, 0.5, 1, 1, 0, 0.5, 1, 1]),
        (schedules.cyclic(1.0, 3.0, period=4, ramp=1.0), [1, 1.5, 2, 2.5, 1, 1.5, 2, 2.5]),
        (schedules.after(3, 2.0), [0, 0, 0, 2, 2, 2, 2, 2]),
        (
            schedules.after(3, schedules.warmup(1.0, steps=2)),
            [0, 0, 0, 0, 0.5, 1, 1, 1],
        ),
    ],
    ids=repr,
)
def test_weights_step_by_step(schedule: Schedule, want: list[float]) -> None:
    assert [schedule(step) for step in range(8)] == pytest.approx(want, rel=1e-15, abs=1e-15)


@every_schedule
def test_a_schedule_shows_how_it_is_made(shown: str, schedule: Schedule) -> None:
    assert repr(schedule) == shown


@every_schedule
def test_a_schedule_pickles_and_compares_by_value(shown: str, schedule: Schedule) -> None:
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    assert [copy(step) for step in range(9)] == [schedule(step) for step in range(9)], shown


@every_schedule
def test_a_schedule_cannot_be_changed(shown: str, schedule: Schedule) -> None:
    with pytest.raises((AttributeError, TypeError)):
        schedule.weight = 2.0  # type: ignore[attr-defined]
    assert repr(schedule) == shown


@every_schedule
@relaxed
@given(step=st.integers(0, 10**12))
def test_weights_are_finite_numbers_at_every_step(
    shown: str, schedule: Schedule, step: int
) -> None:
    weight = schedule(step)
    assert isinstance(weight, float), shown
    assert math.isfinite(weight)


@relaxed
@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 1000), st.integers(0, 2000))
def test_ramps_stay_between_their_ends_and_arrive_exactly(
    start: float, end: float, steps: int, step: int
) -> None:
    low, high = sorted((start, end))
    slack = 1e-12 * (1 + abs(low) + abs(high))
    for ramp in (schedules.linear, schedules.cosine):
        schedule = ramp(start, end, steps=steps)
        assert low - slack <= schedule(step) <= high + slack
        assert schedule(0) == pytest.approx(start, abs=slack)
        assert schedule(max(steps - 1, 1)) == end


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_growth_stops_at_the_largest_number(weight: float) -> None:
    # Either the power or its product with the weight leaves float64 first.
    for growing in (schedules.decay(weight, rate=1.5), schedules.decay(weight * 1e300, rate=1.5)):
        for step in (1755, 100_000):
            assert growing(step) == math.copysign(sys.float_info.max, weight)
    assert schedules.decay(1e300, rate=1.5)(100) == sys.float_info.max


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant(math.nan), r"weight must be finite, got nan\."),
        (lambda: schedules.linear(math.inf, 0.0, steps=3), r"start must be finite, got inf\."),
        (lambda: schedules.linear(0.0, math.nan, steps=3), r"end must be finite, got nan\."),
        (lambda: schedules.linear(0.0, 1.0, steps=-1), r"steps must not be negative, got -1\."),
        (lambda: schedules.warmup(1.0, steps=-1), r"steps must not be negative, got -1\."),
        (lambda: schedules.decay(1.0, rate=0.0), r"rate must be positive and finite, got 0\.0\."),
        (lambda: schedules.cosine(0.0, 1.0, steps=-5), r"steps must not be negative, got -5\."),
        (lambda: schedules.piecewise({}), r"weights must have a weight for step 0, got {}\."),
        (lambda: schedules.piecewise({5: 1.0}), r"weights must have a weight for step 0, got {5: "),
        (lambda: schedules.piecewise({0: 1.0, -3: 1.0}), r"step must not be negative, got -3\."),
        (lambda: schedules.cyclic(0.0, 1.0, period=0), r"period must be at least 1, got 0\."),
        (lambda: schedules.cyclic(0.0, 1.0, period=4, ramp=0.0), r"ramp must be above 0 and at m"),
        (lambda: schedules.after(-1, 1.0), r"start must not be negative, got -1\."),
        (lambda: schedules.after(1, math.inf), r"weight must be finite, got inf\."),
        (lambda: AdaptiveKL(0.0, target=1.0), r"weight must be positive and finite, got 0\.0\."),
        (lambda: AdaptiveKL(1.0, target=-1.0), r"target must be positive and finite, got -1\.0\."),
        (lambda: AdaptiveKL(1.0, target=1.0, gain=5.0), r"gain must be below 5, got 5\.0\."),
    ],
)
def test_arguments_are_checked(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_controller_follows_the_paper() -> None:
    controller = AdaptiveKL(0.2, target=6.0)
    for kl, factor in ((6.0, 1.0), (6.6, 1.01), (5.4, 0.99), (60.0, 1.02), (0.0, 0.98)):
        before = controller(0)
        controller.update(kl)
        assert controller(10**9) == pytest.approx(before * factor, rel=1e-12)


def test_the_controller_steers_a_divergence_to_its_target() -> None:
    controller = AdaptiveKL(0.01, target=0.5, gain=0.5)
    for step in range(200):
        controller.update(0.1 / controller(step))  # the more it weighs, the smaller it gets
    assert 0.1 / controller(200) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("kl", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_not_finite_changes_nothing(kl: float) -> None:
    controller = AdaptiveKL(0.2, target=6.0)
    controller.update(kl)
    assert controller(0) == 0.2


def test_the_controller_reads_tensors() -> None:
    controller = AdaptiveKL(1.0, target=1.0)
    controller.update(torch.tensor(9.0))  # type: ignore[arg-type]
    assert controller(0) == pytest.approx(1.02)


@pytest.mark.parametrize("kl", [0.0, 1e9])
def test_the_controller_stays_positive_and_finite(kl: float) -> None:
    controller = AdaptiveKL(1.0, target=1.0, gain=4.0)
    for _ in range(1000):
        controller.update(kl)
    assert 0 < controller(0) < math.inf


def test_the_controller_survives_a_checkpoint() -> None:
    controller = AdaptiveKL(0.2, target=6.0)
    controller.update(60.0)
    resumed = AdaptiveKL(0.2, target=6.0)
    resumed.load_state_dict(controller.state_dict())
    assert resumed(0) == controller(0)
    assert repr(resumed) == "AdaptiveKL(0.20400000000000001, target=6.0, gain=0.1)"
    with pytest.raises(ValueError, match=r"weight must be positive and finite, got -1\.0\."):
        resumed.load_state_dict({"weight": -1.0})
