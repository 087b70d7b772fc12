from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from benchmarks.measure import (
    exponent,
    in_blocks,
    interleaved,
    quantile,
    ratio,
    ratio_by_block,
    ratio_of_medians,
    shuffled,
)


def test_a_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    # In the third round the machine was ten times slower, for both.
    times = {"a": [1.0, 2.0, 30.0], "b": [2.0, 2.0, 20.0]}
    assert ratio(times, "a", "b") == 1.0
    assert ratio({"a": [1.0, 10.0, 3.0], "b": [2.0, 5.0, 1.0]}, "a", "b") == 2.0


def test_a_ratio_by_block_compares_blocks_of_the_same_turn() -> None:
    # In the second turn the machine was ten times slower; in the third something came between.
    times = {"a": [1.0, 3.0, 20.0, 20.0, 9.0, 9.0], "b": [1.0, 1.0, 10.0, 10.0, 1.0, 1.0]}
    assert ratio_by_block(times, "a", "b", 2, max) == 3.0
    assert ratio_by_block(times, "a", "b", 2, min) == 2.0


def test_a_ratio_of_medians_does_not_need_rounds() -> None:
    assert ratio_of_medians({"a": [1.0, 5.0, 6.0], "b": [2.0]}, "a", "b") == 2.5


@pytest.mark.parametrize(("q", "value"), [(0.5, 2.0), (0.75, 3.0), (0.76, 4.0), (0.0, 1.0)])
def test_a_quantile_is_one_of_the_values(q: float, value: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], q) == value


@pytest.mark.parametrize("k", [-0.5, 0.0, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(k: float) -> None:
    sizes = [4, 16, 64]
    assert exponent(sizes, [3e-6 * n**k for n in sizes]) == pytest.approx(k, abs=1e-12)


def test_a_constant_beside_a_linear_cost_makes_the_exponent_smaller_than_one() -> None:
    # By hand: times 4, 6, 10 at 2, 4, 8 have logarithms to base 2 of 2, 2.585, 3.3219.
    assert exponent([2, 4, 8], [4, 6, 10]) == pytest.approx(0.66096, abs=1e-5)


def test_steps_take_turns_and_each_is_timed_alone() -> None:
    now = 0.0
    order: list[str] = []

    def taking(name: str, seconds: float) -> Callable[[], None]:
        def step() -> None:
            nonlocal now
            now += seconds
            order.append(name)

        return step

    times = interleaved({"a": taking("a", 1.0), "b": taking("b", 0.5)}, 3, clock=lambda: now)
    assert times == {"a": [1.0] * 3, "b": [0.5] * 3}
    assert order == [*"ab", *"ab", *"ba", *"ab"], "one turn to warm up, then turning"


def test_blocks_are_whole_and_every_mode_has_its_share() -> None:
    order = shuffled(["a", "b", "c"], blocks=4, length=5)
    starts = order[::5]
    assert [name for name in starts for _ in range(5)] == order
    assert [Counter(starts[i : i + 3]) for i in range(0, 12, 3)] == [Counter("abc")] * 4
    assert order != [name for _ in range(4) for name in "abc" for _ in range(5)]


def test_modes_report_their_own_times_and_what_is_between_blocks_is_not_one_of_them() -> None:
    ticks = count()
    breaks: list[int] = []
    times = in_blocks(
        {"a": lambda: next(ticks), "b": lambda: next(ticks)},
        blocks=2,
        length=3,
        between=lambda: breaks.append(next(ticks)),
    )
    assert {name: len(own) for name, own in times.items()} == {"a": 6, "b": 6}
    assert len(breaks) == 4
    # The first two were to warm up.
    assert sorted([*times["a"], *times["b"], *breaks]) == [*range(2, 18)]
