"""A bucket is found by a table: the same as by searching."""

import numpy as np
import pytest
from hypothesis import given

from penaltyscope_service.aggregate import DURATION_BOUNDS, NORM_BOUNDS
from penaltyscope_service.aggregate._bucket import Buckets
from tests.service.steps import BITS, UNHURRIED


@pytest.mark.parametrize("bounds", [DURATION_BOUNDS, NORM_BOUNDS])
def test_a_bound_and_its_neighbours_fall_where_searching_puts_them(
    bounds: tuple[float, ...],
) -> None:
    exact = np.array([*bounds, *2.0 ** np.arange(-1074, 1024), 0.0, -0.0, np.inf])
    near = np.concatenate((exact, np.nextafter(exact, -np.inf), np.nextafter(exact, np.inf)))
    numbers = np.concatenate((near, -near))
    found = Buckets.of(np.array(bounds).tobytes()).find(numbers)
    assert found.tolist() == np.searchsorted(bounds, numbers).tolist()


@UNHURRIED
@given(BITS)
def test_every_double_falls_where_searching_puts_it(number: float) -> None:
    numbers = np.array([[number]])
    found = Buckets.of(np.array(NORM_BOUNDS).tobytes()).find(numbers)
    assert np.isnan(number) or found == np.searchsorted(NORM_BOUNDS, numbers)


def test_bounds_that_are_too_close_are_refused() -> None:
    with pytest.raises(ValueError, match="factor of two"):
        Buckets.of(np.array([1.0, 1.5]).tobytes())
