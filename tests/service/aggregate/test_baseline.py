import numpy as np
import pytest

from penaltyscope_service.aggregate._baseline import GROUP_ROWS, Baseline
from tests.service.steps import NAN

WINDOW = 41 * GROUP_ROWS
ONLY = np.zeros(1, np.int64)


def baseline_of(*numbers: float) -> float:
    baseline = Baseline.empty(1)
    baseline.observe(ONLY, np.array([numbers]))
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
    baseline.observe(ONLY, np.full((1, 30), 2.0))
    baseline.widen(1)
    baseline.observe(np.arange(2), np.array([[2.0] * 70, [5.0] * 70]))
    assert baseline.value.tolist() == [2.0, 5.0]


def test_a_term_that_is_not_sent_has_no_part_in_the_groups() -> None:
    baseline = Baseline.empty(3)
    baseline.observe(np.array([2, 0]), np.array([[5.0] * 60, [2.0] * 60]))
    assert str(baseline.value.tolist()) == "[2.0, nan, 5.0]"
    assert baseline.groups.tolist() == [2, 0, 2]
    baseline.observe(np.array([1]), np.full((1, 40), 9.0))
    assert baseline.groups.tolist() == [3, 2, 3]
    assert baseline.value.tolist() == [2.0, 9.0, 5.0]
