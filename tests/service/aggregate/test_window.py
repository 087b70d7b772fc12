import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.aggregate._window import Window, read_windows
from tests.service.steps import INF, NAN, UNHURRIED

ONLY = np.zeros(1, np.int64)
SECONDS = 30.0


def period(now: float) -> int:
    return int(now // SECONDS)


@UNHURRIED
@given(
    spike=st.floats(0, 1000),
    phase=st.floats(0, 1),
    interval=st.floats(1, SECONDS),
    steps=st.lists(st.floats(0, 1500), max_size=20),
)
def test_every_scraper_sees_every_spike(
    spike: float, phase: float, interval: float, steps: list[float]
) -> None:
    window = Window.empty(1, 1)
    arrivals = sorted([*((time, 1.0) for time in steps), (spike, 99.0)])
    first = (phase - 1) * interval
    scrapes = [first + i * interval for i in range(int(1200 / interval))]
    seen = []
    for scrape in scrapes:
        while arrivals and arrivals[0][0] <= scrape:
            time, number = arrivals.pop(0)
            window.observe(period(time), ONLY, np.array([[number]]))
        seen.append(window.read(period(scrape))[0, 0])
    assert 99.0 in seen


def test_a_spike_is_forgotten_after_two_periods() -> None:
    window = Window.empty(1, 1)
    window.observe(10, ONLY, np.array([[99.0]]))
    assert window.read(10).item() == 99.0
    assert window.read(11).item() == 99.0
    assert np.isnan(window.read(12).item())
    window.observe(11, ONLY, np.array([[5.0]]))
    assert window.read(11).item() == 99.0
    assert window.read(12).item() == 5.0


def test_reading_changes_nothing() -> None:
    window = Window.empty(1, 1)
    window.observe(10, ONLY, np.array([[99.0]]))
    assert np.isnan(window.read(50).item())
    assert window.read(10).item() == 99.0


def test_what_comes_with_an_older_clock_is_not_lost() -> None:
    window = Window.empty(1, 1)
    window.observe(10, ONLY, np.array([[1.0]]))
    window.observe(9, ONLY, np.array([[99.0]]))
    assert window.read(10).item() == 99.0


def test_each_number_has_a_maximum_of_its_own_and_what_is_missing_raises_none() -> None:
    window = Window.empty(3, 2)
    columns = np.array([2, 0])
    values, norms = np.array([[1.0, 4.0], [NAN, NAN]]), np.array([[-5.0, NAN], [-0.0, -INF]])
    window.observe(10, columns, values, norms)
    assert str(window.read(10).tolist()) == "[[nan, 0.0], [nan, nan], [4.0, -5.0]]"


def test_several_windows_are_read_as_each_of_them_is() -> None:
    windows = [Window.empty(columns, 2) for columns in (2, 0, 1, 3)]
    for i, window in enumerate(windows):
        columns = np.arange(len(window.current))
        for began in range(9, 9 + i):
            numbers = np.full((len(columns), 1), float(began))
            window.observe(began, columns, numbers, -numbers)
    for now in range(8, 15):
        apart = np.concatenate([window.read(now) for window in windows])
        assert np.array_equal(read_windows(windows, now), apart, equal_nan=True)
