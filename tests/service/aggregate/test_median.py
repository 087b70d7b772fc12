"""Medians found without sorting one column after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.aggregate._median import lower_medians
from tests.service.steps import NAN, UNHURRIED


def middle(numbers: list[float]) -> float:
    there = sorted(number for number in numbers if number == number)
    return there[(len(there) - 1) // 2] if there else NAN


@UNHURRIED
@given(st.data(), st.integers(1, 70), st.integers(0, 5))
def test_the_median_is_the_lower_middle_of_what_is_there(
    data: st.DataObject, height: int, width: int
) -> None:
    numbers = st.floats(allow_infinity=False)
    row = st.lists(numbers, min_size=width, max_size=width)
    rows = data.draw(st.lists(row, min_size=height, max_size=height))
    table = np.array(rows).reshape(height, width)
    expected = np.array([middle(column) for column in table.T.tolist()])
    np.testing.assert_array_equal(lower_medians(table), expected)
    np.testing.assert_array_equal(lower_medians(np.asfortranarray(table)), expected)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 200])
def test_more_columns_than_are_sorted_at_once_do_not_mix(width: int) -> None:
    table = np.random.default_rng(width).normal(size=(25, width))
    table[3::5, ::3] = NAN
    expected = [middle(column) for column in table.T.tolist()]
    assert lower_medians(table).tolist() == expected


def test_a_zero_has_no_sign() -> None:
    assert str(lower_medians(np.array([[-0.0], [0.0], [-0.0]]))) == "[0.]"
