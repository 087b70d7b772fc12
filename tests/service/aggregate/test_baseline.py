import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.aggregate._baseline import GROUP_ROWS, Baseline, lower_median
from tests.service.steps import NAN, UNHURRIED

WINDOW = 41 * GROUP_ROWS


def baseline_of(*numbers: float) -> float:
    baseline = Baseline.empty(1)
    baseline.observe(np.array(numbers).reshape(-1, 1))
    return float(baseline.value[0])


def test_there_is_no_baseline_before_fifty_evaluations() -> None:
    assert np.isnan(baseline_of(*[1.0] * 49))
    assert baseline_of(*[1.0] * 50) == 1.0


def test_a_spike_does_not_move_it() -> None:
    assert baseline_of(*[1.0] * 500, *[1e9] * 12, *[1.0] * 13) == 1.0


def test_an_excursion_moves_it_only_when_it_lasts_for_half_of_the_window() -> None:
    assert baseline_of(*[1.0] * WINDOW, *[1e9] * 500) == 1.0
    assert baseline_of(*[1.0] * WINDOW, *[1e9] * 550) == 1e9


def test_slow_growth_is_followed() -> None:
    growth = 1.01 ** np.arange(2000)
    # By half of the window, that is 512 evaluations, and by half of a group.
    assert baseline_of(*growth) == pytest.approx(growth[-1] / 1.01**525, rel=0.15)


def test_what_was_not_measured_is_no_evidence() -> None:
    assert baseline_of(*[NAN, 3.0] * 50) == 3.0
    assert np.isnan(baseline_of(*[NAN] * 100))


def test_terms_do_not_influence_each_other() -> None:
    baseline = Baseline.empty(1)
    baseline.observe(np.full((30, 1), 2.0))
    baseline.widen(1)
    baseline.observe(np.tile([2.0, 5.0], (70, 1)))
    assert baseline.value.tolist() == [2.0, 5.0]


@UNHURRIED
@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=30))
def test_the_median_is_a_number_that_was_seen(numbers: list[float]) -> None:
    seen = sorted(n for n in numbers if n == n)
    median = lower_median(np.array([numbers]))[0]
    if seen:
        assert median == seen[(len(seen) - 1) // 2]
    else:
        assert np.isnan(median)
