"""One rank's numbers over steps, in no more points than a chart has pixels for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from penaltyscope_service.history import ROLLUP_ROWS, BlockHead, History
from penaltyscope_service.series._lines import LineKey
from penaltyscope_service.series._nonfinite import read_nonfinite
from penaltyscope_service.series._raw import Points, RawLines
from penaltyscope_service.series._rolled import read_rolled
from penaltyscope_service.series._thin import thin
from penaltyscope_service.summary import Line, Series


class Range(NamedTuple):
    """Steps, both ends included, and how many points to draw of them."""

    from_step: int
    to_step: int
    points: int


def read_series(
    history: History,
    stream: int,
    *,
    run: str,
    pipeline: str,
    rank: int,
    keys: Sequence[LineKey],
    within: Range,
) -> Series:
    """The lines, each thinned, and all findings, of one moment.

    Args:
        history: where the steps are.
        stream: the number of the pipeline on the rank.
        run: for the answer.
        pipeline: for the answer.
        rank: for the answer.
        keys: what to draw.
        within: the range.
    """
    raw = RawLines(keys, within.from_step, within.to_step)
    with history.reading() as reader:
        heads = reader.heads(stream, within.from_step, within.to_step)
        coarse, fine = _split(heads, within)
        rolled = read_rolled(reader, coarse, keys)
        raw.read(reader, fine)
        nonfinite, nonfinite_steps = read_nonfinite(reader, heads, within.from_step, within.to_step)
    steps, points = raw.points()
    firsts = [head.first_step for head in coarse] + steps[:1].tolist()
    lasts = [head.last_step for head in coarse] + steps[-1:].tolist()
    return Series(
        run=run,
        pipeline=pipeline,
        rank=rank,
        first_step=min(firsts, default=None),
        last_step=max(lasts, default=None),
        steps=len(steps) + sum(head.rows for head in coarse),
        series=tuple(
            _line(key, parts, within.points)
            for key, *parts in zip(keys, rolled, points, strict=True)
        ),
        nonfinite=nonfinite,
        nonfinite_steps=nonfinite_steps,
    )


def _split(heads: Sequence[BlockHead], within: Range) -> tuple[list[BlockHead], list[BlockHead]]:
    """The blocks whose rollups are fine enough for so many points, and the others."""
    if sum(head.rows for head in heads) * 2 < ROLLUP_ROWS * within.points:
        return [], list(heads)
    coarse: list[BlockHead] = []
    fine: list[BlockHead] = []
    for head in heads:
        inside = within.from_step <= head.first_step and head.last_step <= within.to_step
        (coarse if head.packed and inside else fine).append(head)
    return coarse, fine


def _line(key: LineKey, parts: Sequence[Points], points: int) -> Line:
    step = np.concatenate([step for step, _ in parts])
    value = np.concatenate([value for _, value in parts])
    order = np.argsort(step, kind="stable")
    step, value = thin(step[order], value[order], points)
    return Line(term=key.term, quantity=key.quantity, step=step, value=value)
