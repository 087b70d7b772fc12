"""Evaluations that differ in their numbers only, as those of nearly every second do.

After a second of training nothing of ours is in the processor's caches: what runs once costs many
times what it costs in a loop, and a call more than the numbers of many rows. So one loop asks all
that has to be known of the rows, and few functions, each for all numbers at once, do the rest.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penaltyscope.result import Layout
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._columns import is_ordinary, plan_of
from penaltyscope.telemetry._digits import MOST_ROWS, Patterns, repeated, round_off
from penaltyscope.telemetry._rows import Row
from penaltyscope.telemetry._spanned import trace_of
from penaltyscope.telemetry._transfer import Numbers
from penaltyscope_events import PlainSteps

_NUMBERS = frozenset((float, int))


def steps_alike(rows: Sequence[Row], incarnation: str) -> Steps | None:
    """The steps of at least one row; None unless all are alike, at hand and finite."""
    pipeline, seq, first, context, _ = rows[0]
    layout, weights, has_base = first.layout, first.weights, first.has_base
    count = len(rows)
    # What is on a device is not compared, which would wait for it.
    if first.tap is not None or count > MOST_ROWS or not _NUMBERS.issuperset(map(type, weights)):
        return None
    if (numbers := _numbers(rows)) is None:
        return None
    make = _making(layout, has_base, first.dtype, weights)
    if make is None:
        return None
    together = b"".join(numbers)
    cells = np.ndarray((count, len(together) // (8 * count)), np.float64, together)
    if not is_ordinary(cells):
        return None
    # Side by side, so that all are taken over and rounded at once.
    sheet = cells.take(make.order, axis=1)
    sheet *= make.factors[:count]
    if make.patterns is not None:
        round_off(sheet, make.patterns, ordinary=True)
    step = cells.view(np.int64)[:, 0]
    each = step.tolist()
    one_by_one = range(each[0], each[0] + count)
    trace, sampled = trace_of(context)
    plain = PlainSteps(
        pipeline=pipeline.name,
        incarnation=incarnation,
        terms=layout.terms,
        weights=weights,  # type: ignore[arg-type]  # numbers, as was asked first
        has_base=has_base,
        step=one_by_one if each == [*one_by_one] else step,
        seq=range(seq, seq + count),
        cells=sheet,
    )
    return Steps(plain, (trace,) * count, (sampled,) * count)


def _numbers(rows: Sequence[Row]) -> list[bytes] | None:
    """The stamp and the numbers of each in turn; None if the rows differ in anything else."""
    pipeline, seq, first, context, _ = rows[0]
    layout, weights, has_base = first.layout, first.weights, first.has_base
    numbers: list[bytes] = []
    for its_pipeline, its_seq, statistics, its_context, _ in rows:
        if (
            its_pipeline is not pipeline
            or its_seq != seq
            or its_context is not context
            or statistics.layout is not layout
            or statistics.has_base is not has_base
            or type(its_numbers := statistics.numbers) is not bytes
            or (statistics.weights is not weights and statistics.weights != weights)
        ):
            return None
        numbers.append(statistics.stamp)
        numbers.append(its_numbers)
        seq += 1
    return numbers


class _Making(NamedTuple):
    """How a sheet is made of the cells of rows that are alike; each table is for many rows."""

    order: NDArray[np.intp]
    """For each column the cell that it begins with."""
    factors: Numbers
    """Make contributions of values, and leave all else, times too, as it is."""
    patterns: Patterns | None
    """To round by; None where all digits count."""


@lru_cache(maxsize=64)
def _making(
    layout: Layout, has_base: bool, dtype: torch.dtype, weights: tuple[float, ...]
) -> _Making | None:
    """None where something has to be put together, or a weight is 0."""
    plan = plan_of(layout, has_base, dtype)
    if not (plan.steady and all(weights)):
        return None
    ones = (1.0,) * len(weights)
    factors = repeated(np.array((*(1.0,) * 6, *ones, *weights, *ones)))
    return _Making(plan.order, factors, plan.patterns)
