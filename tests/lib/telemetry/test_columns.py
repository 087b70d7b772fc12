"""What is made for all steps at once is what is made step by step."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from penaltyscope.telemetry._alike import steps_alike
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._columns import steps_of
from penaltyscope.telemetry._rows import Row, cells_at_hand, stretch
from penaltyscope_events import COLUMNS, PlainSteps, TermFlag
from tests.lib.telemetry.evaluations import rows


def made(found: Sequence[Row]) -> Steps:
    together = stretch(found)
    return steps_alike(found, "i") or steps_of(together, cells_at_hand(together), "i")


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_of_one_weight_are_those_of_weights_that_change(
    with_base: bool, dtype: torch.dtype
) -> None:
    found = rows(9, with_base=with_base, dtype=dtype)
    pipeline, seq, statistics, context, mark = found[-1]
    other = pipeline, seq, replace(statistics, weights=(0.4, 7)), context, mark
    plain, changing = made(found), made([*found[:-1], other])
    assert isinstance(plain.made, PlainSteps)
    assert not isinstance(changing.made, PlainSteps)
    for name in COLUMNS:
        one, two = (getattr(steps.block, name)[:-1] for steps in (plain, changing))
        assert one.dtype == two.dtype, name
        assert np.array_equal(one, two), name


@pytest.mark.parametrize("weights", [(0.3, 7), (0.0, 7)])
def test_times_are_kept_to_the_nanosecond(weights: tuple[float, ...]) -> None:
    found = [
        (pipeline, seq, replace(statistics, weights=weights), context, mark)
        for pipeline, seq, statistics, context, mark in rows(9)
    ]
    steps = made(found).block
    statistics = [row[2] for row in found]
    assert steps.stop_ns.tolist() == [s.stop_ns for s in statistics]
    assert steps.duration == pytest.approx([s.duration for s in statistics], rel=1e-6, abs=0)


def test_a_term_without_weight_has_flags() -> None:
    found = [
        (pipeline, seq, replace(statistics, weights=(0.0, 7.0)), context, mark)
        for pipeline, seq, statistics, context, mark in rows(3)
    ]
    assert made(found).block.flags.tolist() == [[TermFlag.NORM_NOT_MEASURED, 0]] * 3


def test_a_step_that_is_not_finite_has_flags() -> None:
    found = rows(3)
    pipeline, seq, statistics, context, mark = found[1]
    numbers = statistics.row.numpy().copy()
    numbers[0] = np.nan
    bad = replace(statistics, numbers=numbers.tobytes())
    found[1] = pipeline, seq, bad, context, mark
    assert made(found).block.flags.tolist() == [[0, 0], [TermFlag.VALUE_NAN, 0], [0, 0]]
