"""Times of things that take turns in one process, and what is made of them.

A machine is never quiet for long. What is compared therefore runs in turn, again and again, and a
ratio is the median of the ratios within a turn: what slows the machine down slows both.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Times = Mapping[str, Sequence[float]]
"""Seconds by name, in order."""


def interleaved(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> Times:
    """Seconds of processor time by step and round; the order turns from round to round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = [*steps]
    for step in steps.values():
        step()
    for i in range(rounds):
        for name in [*names[i % len(names) :], *names[: i % len(names)]]:
            started = clock()
            steps[name]()
            times[name].append(clock() - started)
    return times


def shuffled(names: Sequence[str], blocks: int, length: int) -> list[str]:
    """Each name ``blocks * length`` times, in blocks whose order is shuffled within a turn.

    What runs right after something else finds its caches; within a block it finds its own.
    """
    shuffle = random.Random(0).shuffle
    order: list[str] = []
    for _ in range(blocks):
        turn = [*names]
        shuffle(turn)
        order += [name for name in turn for _ in range(length)]
    return order


def in_blocks(
    modes: Mapping[str, Callable[[], float]],
    *,
    blocks: int,
    length: int,
    between: Callable[[], object] = lambda: None,
) -> Times:
    """The seconds that each mode measured itself, in shuffled blocks.

    Args:
        modes: each runs one step and returns the seconds of the part that counts.
        blocks: of each mode.
        length: steps of a block.
        between: called after every block, outside of all measurements.
    """
    times: dict[str, list[float]] = {name: [] for name in modes}
    for mode in modes.values():
        mode()
    for i, name in enumerate(shuffled([*modes], blocks, length), start=1):
        times[name].append(modes[name]())
        if i % length == 0:
            between()
    return times


def ratio(times: Times, one: str, other: str) -> float:
    """Median over the rounds of one step's time over the other's."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def ratio_by_block(
    times: Times, one: str, other: str, length: int, of: Callable[[Sequence[float]], float]
) -> float:
    """Median over the turns of one block's number over that of the other's of the same turn."""
    numbers = {
        name: [of(times[name][i : i + length]) for i in range(0, len(times[name]), length)]
        for name in (one, other)
    }
    return ratio(numbers, one, other)


def ratio_of_medians(times: Times, one: str, other: str) -> float:
    """Of two that do not run in the same rounds."""
    return statistics.median(times[one]) / statistics.median(times[other])


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the part ``q`` of all does not exceed."""
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """``k`` of the best fit ``time = c * size ** k``: least squares of the logarithms."""
    logarithms = [math.log(size) for size in sizes], [math.log(time) for time in times]
    return statistics.linear_regression(*logarithms).slope
