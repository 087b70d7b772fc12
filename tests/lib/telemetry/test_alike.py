"""Rows that are alike are taken together; whatever differs is seen, and nothing is remembered."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from opentelemetry.context import Context

import penaltyscope as ps
from penaltyscope.result import Statistics
from penaltyscope.telemetry._alike import steps_alike
from penaltyscope.telemetry._carrier import Carrier
from penaltyscope.telemetry._columns import steps_of
from penaltyscope.telemetry._digits import MOST_ROWS
from penaltyscope.telemetry._rows import Row, cells_at_hand, stretch
from penaltyscope_events import COLUMNS, PlainSteps
from tests.lib.telemetry.evaluations import TERMS, rows


def same_as_step_by_step(found: list[Row]) -> None:
    alike = steps_alike(found, "i")
    assert alike is not None
    assert isinstance(alike.made, PlainSteps)
    together = stretch(found)
    other = steps_of(together, cells_at_hand(together), "i")
    assert (alike.traces, alike.sampled) == (other.traces, other.sampled)
    one, two = alike.block, other.block
    assert (one.pipeline, one.incarnation, one.terms) == (two.pipeline, two.incarnation, two.terms)
    for name in COLUMNS:
        assert getattr(one, name).dtype == getattr(two, name).dtype, name
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True), name


def test_pipelines_that_take_turns_get_what_is_theirs() -> None:
    kinds = [
        rows(7),
        rows(5, weight=0.4),
        rows(7, with_base=False),
        rows(3, dtype=torch.float64),
        rows(1),
        rows(MOST_ROWS),
    ]
    for found in (*kinds, *reversed(kinds)):
        same_as_step_by_step(found)


def test_steps_may_jump_or_stand_still_where_numbers_do_not() -> None:
    found = rows(6)
    pipeline = found[0][0]
    for steps in ([5, 6, 7, 8, 9, 10], [5, 5, 6, 6, 7, 7], [5, 6, 7, 8, 9, 2**20], [3, 2, 1] * 2):
        evaluated: list[Row] = []
        for seq, step in enumerate(steps):
            pipeline.step = step
            statistics = pipeline(torch.ones(5, requires_grad=True), base=torch.ones(())).statistics
            evaluated.append((pipeline, seq, statistics, None, None))
        same_as_step_by_step(evaluated)
        alike = steps_alike(evaluated, "i")
        assert alike is not None
        assert alike.block.step.tolist() == steps


def with_numbers(statistics: Statistics, number: float) -> Statistics:
    numbers = statistics.row.numpy().copy()
    numbers[0] = number
    return replace(statistics, numbers=numbers.tobytes())


OTHERS: dict[str, Callable[[Row], Row]] = {
    "pipeline": lambda row: (ps.Pipeline(TERMS), *row[1:]),
    "seq": lambda row: (row[0], row[1] + 1, *row[2:]),
    "context": lambda row: (*row[:3], Context(), row[4]),
    "layout": lambda row: (*row[:2], rows(1)[0][2], *row[3:]),
    "base": lambda row: (*row[:2], replace(row[2], has_base=False), *row[3:]),
    "weights": lambda row: (*row[:2], replace(row[2], weights=(0.5, 7.0)), *row[3:]),
    "tensor": lambda row: (*row[:2], replace(row[2], numbers=row[2].row), *row[3:]),
    "nan": lambda row: (*row[:2], with_numbers(row[2], np.nan), *row[3:]),
    "-inf": lambda row: (*row[:2], with_numbers(row[2], -np.inf), *row[3:]),
    "large": lambda row: (*row[:2], with_numbers(row[2], 1e305), *row[3:]),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("place", [1, 4])
def test_one_row_that_differs_is_seen(what: str, place: int) -> None:
    found = rows(5)
    assert steps_alike(found, "i") is not None
    found[place] = OTHERS[what](found[place])
    assert steps_alike(found, "i") is None
    brought = Carrier("i").bring(found)
    assert sum(len(steps.block) for steps in brought) == 5


@pytest.mark.parametrize("weights", [(0.0, 7.0), (torch.ones(()), 7.0)])
def test_a_weight_that_is_nothing_or_no_number_is_seen(
    weights: tuple[float | torch.Tensor, ...],
) -> None:
    found = [(*row[:2], replace(row[2], weights=weights), *row[3:]) for row in rows(3)]
    assert steps_alike(found, "i") is None


def test_more_rows_than_tables_are_made_for_are_not_taken() -> None:
    assert steps_alike(rows(MOST_ROWS + 1), "i") is None
