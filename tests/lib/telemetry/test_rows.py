"""Which evaluations become columns together, and what is looked at before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import penaltyscope as ps
from penaltyscope.telemetry._columns import is_ordinary
from penaltyscope.telemetry._rows import (
    STAMP,
    Row,
    cells_at_hand,
    cells_of,
    gather,
    stretch,
    stretches,
)


def rows(count: int) -> list[Row]:
    pipeline = ps.Pipeline([ps.Term("size", ps.l2), ps.Term("sum", ps.l1)])
    x = torch.ones(3, requires_grad=True)
    return [(pipeline, seq, pipeline(x).statistics, None, None) for seq in range(count)]


def test_evaluations_of_one_kind_stay_together() -> None:
    found = rows(5)
    assert stretches(found) == [stretch(found)]
    assert stretches([]) == []


def test_a_stretch_ends_where_numbers_are_no_longer_at_hand() -> None:
    found = rows(4)
    found[2:] = [
        (pipeline, seq, replace(statistics, numbers=statistics.row), context, mark)
        for pipeline, seq, statistics, context, mark in found[2:]
    ]
    first, second = stretches(found)
    assert (first, second) == (stretch(found[:2]), stretch(found[2:]))
    assert first.at_hand
    assert not second.at_hand
    numbers = gather(second).numpy()
    assert np.array_equal(cells_at_hand(first)[:, STAMP:], numbers)
    times = cells_of(second, numbers).view(np.int64)[:, 2]
    assert times.tolist() == [row[2].stop_ns for row in found[2:]]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300, -1e300])
@pytest.mark.parametrize("place", [(0, 0), (-1, -1)])
def test_one_number_that_is_not_ordinary_is_seen_among_many(
    number: float, place: tuple[int, int]
) -> None:
    numbers = np.ones((200, 100))
    assert is_ordinary(numbers)
    numbers[place] = number
    assert not is_ordinary(numbers)
