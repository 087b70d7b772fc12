import numpy as np
from numpy.typing import ArrayLike

from penaltyscope_service.aggregate._interval import Intervals


def observe(intervals: Intervals, step: ArrayLike, seconds: ArrayLike) -> list[float]:
    times = np.rint(np.asarray(seconds, np.float64) * 1e9).astype(np.int64)
    intervals.observe(np.asarray(step, np.int64), times)
    report, per_step = intervals.median
    return [float(report), float(per_step)]


def test_one_interval_is_enough_to_know() -> None:
    intervals = Intervals.empty()
    assert np.isnan(observe(intervals, [0], [100.0])).all()
    assert observe(intervals, [1], [102.5]) == [2.5, 2.5]


def test_a_pause_does_not_move_the_median() -> None:
    intervals = Intervals.empty()
    assert observe(intervals, range(6), [0, 1, 2, 600, 601, 602]) == [1.0, 1.0]


def test_evaluations_of_the_same_step_are_one() -> None:
    intervals = Intervals.empty()
    observe(intervals, [0, 0], [0.0, 0.3])
    assert observe(intervals, [0, 1, 1, 2], [0.6, 1.0, 1.3, 2.0]) == [1.0, 1.0]


def test_a_run_that_reports_every_tenth_step_has_two_intervals() -> None:
    assert observe(Intervals.empty(), [0, 10, 20], [0.0, 5.0, 10.0]) == [5.0, 0.5]


def test_what_arrives_late_goes_back_in_time_and_is_left_out() -> None:
    intervals = Intervals.empty()
    observe(intervals, [10, 11, 12], [10.0, 11.0, 12.0])
    assert observe(intervals, [3], [3.0]) == [1.0, 1.0]


def test_only_the_last_sixty_four_count() -> None:
    intervals = Intervals.empty()
    observe(intervals, range(1000), np.arange(1000) * 9.0)
    assert observe(intervals, range(1000, 1064), 9000 + np.arange(64)) == [1.0, 1.0]


def test_the_time_between_two_processes_is_no_step() -> None:
    intervals = Intervals.empty()
    observe(intervals, [5, 6], [0.0, 1.0])
    intervals.forget_step()
    assert observe(intervals, [7, 8], [500.0, 501.0]) == [1.0, 1.0]
    assert intervals.count == 2
