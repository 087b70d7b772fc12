"""From the tensors of single evaluations to columns of numbers. Runs on the recorder's thread."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, get_current_span
from torch import Tensor

from penaltyscope.result import Layout, Statistics
from penaltyscope.telemetry._channel import Steps, Trace
from penaltyscope_events import StepBlock, TermFlag, complete_flags

Column = NDArray[np.float64]


Row = tuple[str, int, Statistics, Context]
"""One evaluation as the training thread left it: pipeline, seq, numbers, and where it ran."""


def blocks(rows: Sequence[Row], incarnation: str) -> list[Steps]:
    """The rows in order, as one block for each stretch of the same pipeline and layout."""
    stretches = groupby(rows, key=lambda row: (row[0], id(row[2].layout)))
    parts = [list(stretch) for _, stretch in stretches]
    return [
        Steps(_block(part, incarnation), *_traces([context for *_, context in part]))
        for part in parts
    ]


def _block(rows: Sequence[Row], incarnation: str) -> StepBlock:
    statistics = [row[2] for row in rows]
    layout = statistics[0].layout
    value = _numbers([s.values for s in statistics])
    weights = _weights(statistics)
    norms, total_norm = _gradient_norms(layout, statistics, weights)
    # A total without a base is one number, with it two.
    totals = [s.totals.tolist() for s in statistics]
    return StepBlock(
        pipeline=rows[0][0],
        incarnation=incarnation,
        terms=layout.terms,
        step=np.array([s.step for s in statistics], np.int64),
        seq=np.array([row[1] for row in rows], np.int64),
        stop_ns=np.array([s.stop_ns for s in statistics], np.int64),
        duration=np.array([s.duration for s in statistics]),
        base=np.array([t[1] if len(t) > 1 else np.nan for t in totals]),
        has_base=np.array([len(t) > 1 for t in totals]),
        total=np.array([t[0] for t in totals]),
        total_gradient_norm=total_norm,
        value=value,
        weight=weights,
        contribution=_numbers([s.contributions for s in statistics]),
        gradient_norm=norms,
        flags=complete_flags(_known_flags(layout, statistics, weights), value, norms),
    )


def _traces(contexts: Sequence[Context]) -> tuple[tuple[Trace, ...], tuple[bool, ...]]:
    """The spans that were current, and whether each is kept."""
    spans = [get_current_span(context).get_span_context() for context in contexts]
    sampled = tuple(not span.is_valid or span.trace_flags.sampled for span in spans)
    return tuple(_ids(span) for span in spans), sampled


def _ids(span: SpanContext) -> Trace:
    if not span.is_valid:
        return None
    return span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")


def _gradient_norms(
    layout: Layout, statistics: Sequence[Statistics], weights: Column
) -> tuple[Column, Column]:
    """``[N, T]`` unweighted norms and ``[N]`` norms of the total; NaN where not measured."""
    squared = np.full((len(statistics), len(layout.terms)), np.nan)
    total = np.full(len(statistics), np.nan)
    settled = [i for i, s in enumerate(statistics) if _settled(s)]
    if not settled:
        return squared, total
    taps = [tap for i in settled if (tap := statistics[i].tap) is not None]
    norms = _numbers([tap.norms for tap in taps if tap.norms is not None])
    scale = np.abs(_numbers([tap.scale for tap in taps if tap.scale is not None]))
    sums = np.zeros((len(settled), len(layout.terms)))
    for alias, (term, _) in enumerate(layout.aliases):
        sums[:, term] += norms[:, alias] ** 2
    sums[:, ~np.array(layout.measured, bool)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # a scale of 0 measures nothing
        squared[settled] = np.sqrt(sums) / (np.abs(weights[settled]) * scale[:, None])
        total[settled] = np.sqrt((norms[:, len(layout.aliases) :] ** 2).sum(axis=1)) / scale
    return squared, total


def _settled(statistics: Statistics) -> bool:
    tap = statistics.tap
    if tap is None or tap.norms is None or tap.scale is None:
        return False
    return bool(tap.scale != 0)


def _known_flags(
    layout: Layout, statistics: Sequence[Statistics], weights: Column
) -> NDArray[np.int32]:
    flags = np.zeros(weights.shape, np.int32)
    flags[weights == 0] |= TermFlag.NORM_NOT_MEASURED
    flags[:, ~np.array(layout.enabled, bool)] |= TermFlag.DISABLED
    flags[:, ~np.array(layout.measured, bool)] |= TermFlag.NORM_NOT_MEASURED
    flags[[not _settled(s) for s in statistics]] |= TermFlag.NORM_NOT_MEASURED
    lowest, highest = _extremes(statistics)
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


def _weights(statistics: Sequence[Statistics]) -> Column:
    """``[N, T]``; a weight that is a tensor is read here."""
    rows = [[float(weight) for weight in s.weights] for s in statistics]
    return np.array(rows, np.float64).reshape(len(statistics), -1)


def _extremes(statistics: Sequence[Statistics]) -> tuple[Column, Column]:
    """``[N, I]`` lowest and highest element of each input; 0 for an empty one."""
    pairs = [
        [(0.0, 0.0) if pair is None else (pair[0].item(), pair[1].item()) for pair in s.extremes]
        for s in statistics
    ]
    both = np.array(pairs, np.float64).reshape(len(statistics), -1, 2)
    return both[..., 0], both[..., 1]


def _numbers(tensors: Sequence[Tensor]) -> Column:
    """Equal shapes, stacked; the copy from a device waits here, not in the training thread."""
    stacked: Column = torch.stack(list(tensors)).to("cpu", torch.float64).numpy()
    return stacked
