import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.series._thin import thin
from tests.service.steps import INF, NAN, SINGLES, UNHURRIED

STEP = st.one_of(st.integers(0, 50), st.integers(2**63 - 100, 2**63 - 1))
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@UNHURRIED
@given(
    pairs=st.lists(st.tuples(STEP, SINGLES), max_size=200),
    points=st.integers(4, 60),
)
def test_points_are_some_of_the_given_ones_in_order_the_ends_among_them(
    pairs: list[tuple[int, float]], points: int
) -> None:
    pairs.sort(key=lambda pair: pair[0])
    step, value = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else ([], [])
    steps, values = thin(np.array(step, np.int64), np.array(value, np.float64), points)
    assert len(steps) <= points
    found = [(int(s), repr(v)) for s, v in zip(steps, values.tolist(), strict=True)]
    given = iter([(s, repr(v)) for s, v in pairs])
    assert all(pair in given for pair in found)  # in order: an iterator does not go back
    if pairs:
        assert found[0] == (pairs[0][0], repr(pairs[0][1]))
        assert found[-1] == (pairs[-1][0], repr(pairs[-1][1]))


@UNHURRIED
@given(values=st.lists(FINITE, min_size=20, max_size=60), points=st.integers(4, 15))
@pytest.mark.parametrize("repeated", [1, 9])
def test_the_extremes_of_the_whole_are_never_lost(
    values: list[float], points: int, repeated: int
) -> None:
    _, found = thin(np.arange(len(values)) // repeated, np.array(values), points)
    assert (found.min(), found.max()) == (min(values), max(values))


def test_the_extremes_of_every_stretch_are_there() -> None:
    value = np.sin(np.arange(10_000) / 500)
    value[1234], value[7890] = 9.0, -9.0
    step, found = thin(np.arange(10_000), value, 200)
    assert found[step == 1234] == [9.0]
    assert found[step == 7890] == [-9.0]


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_one_number_that_is_not_finite_is_there_and_hides_no_peak(odd: float) -> None:
    value = np.zeros(10_000)
    value[4999], value[5000] = 1e6, odd
    step, found = thin(np.arange(10_000), value, 100)
    assert repr(found[step == 5000].tolist()) == repr([odd])
    assert found[step == 4999] == [1e6]


def test_a_run_that_stays_nan_leaves_room_for_what_was_before() -> None:
    value = np.sin(np.arange(10_000) / 100)
    value[2000:] = NAN
    step, found = thin(np.arange(10_000), value, 100)
    assert np.isfinite(found).sum() >= 50
    assert step[np.isnan(found)][[0, -1]].tolist() == [2000, 9999]


def test_many_evaluations_of_one_step_are_thinned_by_their_order() -> None:
    value = np.zeros(1000)
    value[500] = 7.0
    step, found = thin(np.full(1000, 3), value, 10)
    assert set(step.tolist()) == {3}
    assert found.max() == 7.0


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="points must be at least 4, got 3"):
        thin(np.arange(10), np.zeros(10), 3)
