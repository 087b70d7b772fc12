"""From the tensors of single evaluations to columns of numbers. Runs on the recorder's thread."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from torch import Tensor

from penaltyscope.result import Layout, Statistics
from penaltyscope.telemetry._channel import Steps, Trace
from penaltyscope_events import StepBlock, TermFlag, complete_flags

Column = NDArray[np.float64]


Row = tuple[str, int, Statistics, Context]
"""One evaluation as the training thread left it: pipeline, seq, numbers, and where it ran."""


def blocks(rows: Sequence[Row], incarnation: str) -> list[Steps]:
    """The rows in order, as one block for each stretch of the same pipeline and layout."""
    stretches = groupby(rows, key=lambda row: (row[0], id(row[2].layout), row[2].has_base))
    parts = [list(stretch) for _, stretch in stretches]
    return [
        Steps(_block(part, incarnation), tuple(_trace(context) for *_, context in part))
        for part in parts
    ]


def _block(rows: Sequence[Row], incarnation: str) -> StepBlock:
    statistics = [row[2] for row in rows]
    layout, has_base = statistics[0].layout, statistics[0].has_base
    parts = np.split(_numbers([s.row for s in statistics]), np.cumsum(layout.parts), axis=1)
    value, extremes, known, known_sums, totals = parts
    weights = np.array([[float(w) for w in s.weights] for s in statistics], np.float64)
    weights = weights.reshape(value.shape)
    counts = np.array(layout.active, bool) & (weights != 0)
    brought = _brought(layout, statistics)
    squares, measured = _squared_norms(layout, weights, known, brought)
    with np.errstate(invalid="ignore"):  # 0 * inf, where the product does not count
        contribution = np.where(counts, weights * value, 0.0)
    norms = np.sqrt(squares)
    flags = _known_flags(layout, extremes) | np.where(measured, 0, TermFlag.NORM_NOT_MEASURED)
    return StepBlock(
        pipeline=rows[0][0],
        incarnation=incarnation,
        terms=layout.terms,
        step=np.array([s.step for s in statistics], np.int64),
        seq=np.array([row[1] for row in rows], np.int64),
        stop_ns=np.array([s.stop_ns for s in statistics], np.int64),
        duration=np.array([s.duration for s in statistics]),
        base=totals[:, 1] if has_base else np.full(len(rows), np.nan),
        has_base=np.full(len(rows), has_base),
        total=totals[:, 0],
        total_gradient_norm=np.sqrt(_squared_sums(layout, known_sums, brought)),
        value=value,
        weight=weights,
        contribution=contribution,
        gradient_norm=norms,
        flags=complete_flags(flags.astype(np.int32), value, norms),
    )


def _trace(context: Context) -> Trace:
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    return span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")


def _squared_norms(
    layout: Layout, weights: Column, known: Column, brought: Column
) -> tuple[Column, NDArray[np.bool_]]:
    """``[N, T]`` of the unweighted gradients, and where they were measured; elsewhere NaN."""
    squares = np.zeros(weights.shape)
    measured = np.array(layout.measured, bool) & (weights != 0)
    for column, (term, _) in enumerate(layout.known):
        squares[:, term] += known[:, column] ** 2
    for column, (term, _) in enumerate(layout.tapped):
        scale = brought[:, -1]
        measured[:, term] &= scale != 0
        with np.errstate(divide="ignore", invalid="ignore"):  # only where it was not measured
            squares[:, term] += (brought[:, column] / (weights[:, term] * scale)) ** 2
    return np.where(measured, squares, np.nan), measured


def _squared_sums(layout: Layout, known_sums: Column, brought: Column) -> Column:
    """``[N]`` of the total's gradient; NaN where not measured."""
    squares: Column = (known_sums**2).sum(axis=1)
    if layout.tapped:
        first, scale = len(layout.tapped), np.where(brought[:, -1:] == 0, np.nan, brought[:, -1:])
        squares += ((brought[:, first:-1] / scale) ** 2).sum(axis=1)
    return squares if layout.tensors else np.full(len(squares), np.nan)


def _brought(layout: Layout, statistics: Sequence[Statistics]) -> Column:
    """``[N, A + S + 1]``, what the backward passes brought; 0 where none has been."""
    width = len(layout.tapped) + len(layout.tapped_sums) + 1
    brought = np.zeros((len(statistics), width))
    rows = [None if s.tap is None else s.tap.row for s in statistics]
    there = [i for i, row in enumerate(rows) if row is not None]
    if there:
        brought[there] = _numbers([row for row in rows if row is not None])
    return brought


def _known_flags(layout: Layout, extremes: Column) -> NDArray[np.int32]:
    flags = np.zeros((len(extremes), len(layout.terms)), np.int32)
    flags[:, ~np.array(layout.enabled, bool)] |= TermFlag.DISABLED
    lowest, highest = extremes[:, ::2], extremes[:, 1::2]
    for term, inputs in enumerate(layout.inputs):
        if not inputs or not layout.enabled[term]:
            continue
        low, high = lowest[:, inputs], highest[:, inputs]
        infinite = high == np.inf
        if not layout.allows_negative_infinity[term]:
            infinite |= low == -np.inf
        flags[np.isnan(low).any(axis=1), term] |= TermFlag.INPUT_NAN
        flags[infinite.any(axis=1), term] |= TermFlag.INPUT_INF
    return flags


def _numbers(tensors: Sequence[Tensor]) -> Column:
    """Equal shapes, stacked; the copy from a device waits here, not in the training thread."""
    stacked: Column = torch.stack(list(tensors)).to("cpu", torch.float64).numpy()
    return stacked
