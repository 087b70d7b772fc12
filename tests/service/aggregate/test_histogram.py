import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.aggregate import DURATION_BOUNDS, NORM_BOUNDS
from penaltyscope_service.aggregate._histogram import Histogram
from penaltyscope_service.kernel import by_term
from tests.service.steps import BITS, NAN, UNHURRIED

ONLY = np.zeros(1, np.int64)


@pytest.mark.parametrize("bounds", [DURATION_BOUNDS, NORM_BOUNDS])
def test_a_bound_and_its_neighbours_fall_where_searching_puts_them(
    bounds: tuple[float, ...],
) -> None:
    exact = np.array([*bounds, 0.0, -0.0, 5e-324, 1e300])
    near = np.concatenate((exact, np.nextafter(exact, -np.inf), np.nextafter(exact, np.inf)))
    for number in (*near, *-near):
        histogram = Histogram.empty(bounds, 1)
        histogram.observe(ONLY, np.array([[number]]))
        assert histogram.counts[0].argmax() == np.searchsorted(bounds, number)
        assert histogram.counts.sum() == 1


@UNHURRIED
@given(st.lists(st.tuples(BITS, BITS), max_size=20))
def test_columns_are_counted_and_summed_each_in_order_of_arrival(
    rows: list[tuple[float, float]],
) -> None:
    numbers = np.array(rows).reshape(-1, 2)
    numbers[~np.isfinite(numbers)] = NAN
    histogram = Histogram.empty(NORM_BOUNDS, 3)
    for part in (numbers[:7], numbers[7:]):
        histogram.observe(np.array([2, 0]), by_term(part))
    for place, column in ((2, numbers[:, 0]), (0, numbers[:, 1])):
        there = column[~np.isnan(column)]
        found = np.searchsorted(NORM_BOUNDS, there)
        assert histogram.counts[place].tolist() == np.bincount(found, minlength=14).tolist()
        assert histogram.sums[place] == sum(there.tolist(), 0.0)
    assert not histogram.counts[1].any()
