"""From the numbers of single evaluations to columns. Runs on the recorder's thread."""

from collections.abc import Iterator, Sequence
from contextvars import Context
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from opentelemetry.context import Context as TelemetryContext
from opentelemetry.context import get_current
from opentelemetry.trace import get_current_span
from torch import Tensor

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Layout, Statistics
from penaltyscope.telemetry._channel import Steps, Trace
from penaltyscope.telemetry._transfer import Numbers
from penaltyscope_events import StepBlock, TermFlag, complete_flags

_ROUNDED_BITS = 52 - 23
"""Bits of a double's fraction that float32 does not have."""


Row = tuple[Pipeline, int, Statistics, Context, object]
"""One evaluation as the training thread left it: pipeline, seq, numbers, where it ran, and what a
copy of its numbers has to wait for."""


def stretches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in order, cut where the pipeline, its layout or the kind of its weights changes."""
    for _, part in groupby(rows, key=_kind):
        yield list(part)


def _kind(row: Row) -> tuple[object, ...]:
    statistics = row[2]
    kind = id(row[0]), id(statistics.layout), statistics.has_base
    if statistics.row.is_cpu:
        return kind
    return *kind, *(isinstance(weight, Tensor) for weight in statistics.weights)


def gather(rows: Sequence[Row]) -> Tensor:
    """``[N, W]``: the rows' numbers side by side on their device: forward, weights, backward."""
    statistics = [row[2] for row in rows]
    parts = [torch.stack([s.row for s in statistics])]
    for term in _weights_on_device(statistics[0]):
        # No copy to where it is already; a weight may live on another device than the numbers.
        parts.append(torch.stack([s.weights[term].to(parts[0]) for s in statistics])[:, None])  # type: ignore[union-attr]
    if width := _brought_width(statistics[0].layout):
        taps = [None if s.tap is None else s.tap.row for s in statistics]
        if (like := next((row for row in taps if row is not None), None)) is not None:
            # A scale of 0 says that nothing was measured.
            nothing = like.new_zeros(width)
            brought = torch.stack([nothing if row is None else row for row in taps])
            parts.append(brought.to(parts[0].device))
    return parts[0] if len(parts) == 1 else torch.cat([part.double() for part in parts], dim=1)


def block(rows: Sequence[Row], numbers: Numbers, incarnation: str) -> Steps:
    """The columns of one stretch, whose numbers were gathered and brought here."""
    statistics = [row[2] for row in rows]
    first = statistics[0]
    layout = first.layout
    *known, totals, held, brought = _split(first, numbers)
    value, extremes, norms, sums = known
    weights = _weights(statistics, held)
    squares, measured = _squared_norms(layout, weights, norms, brought)
    with np.errstate(invalid="ignore"):  # 0 * inf, where the product does not count
        counts = np.array(layout.active, bool) & (weights != 0)
        contribution = np.where(counts, weights * value, 0.0)
    flags = _known_flags(layout, extremes) | np.where(measured, 0, TermFlag.NORM_NOT_MEASURED)
    rounded = _as_measured if first.dtype.itemsize <= torch.float32.itemsize else _unchanged
    norm = rounded(np.sqrt(squares))
    columns = StepBlock(
        pipeline=rows[0][0].name,
        incarnation=incarnation,
        terms=layout.terms,
        step=np.array([s.step for s in statistics], np.int64),
        seq=np.array([row[1] for row in rows], np.int64),
        stop_ns=np.array([s.stop_ns for s in statistics], np.int64),
        duration=_as_measured(np.array([s.duration for s in statistics])),
        base=rounded(totals[:, 1]) if first.has_base else np.full(len(rows), np.nan),
        has_base=np.full(len(rows), first.has_base),
        total=rounded(totals[:, 0]),
        total_gradient_norm=rounded(np.sqrt(_squared_sums(layout, sums, brought))),
        value=rounded(value),
        weight=weights,
        contribution=rounded(contribution),
        gradient_norm=norm,
        flags=complete_flags(flags.astype(np.int32), value, norm),
    )
    return Steps(columns, _traces(rows))


def _split(statistics: Statistics, numbers: Numbers) -> list[Numbers]:
    """The parts of the forward pass's row, weights on the device, and the backward pass's row."""
    forward = len(statistics.row)
    held = forward + len(_weights_on_device(statistics))
    edges = [*np.cumsum(statistics.layout.parts).tolist(), forward, held]
    parts = np.split(numbers, edges, axis=1)
    width = _brought_width(statistics.layout)
    if parts[-1].shape[1] < width:
        parts[-1] = np.zeros((len(numbers), width))
    return parts


def _brought_width(layout: Layout) -> int:
    return len(layout.tapped) + len(layout.tapped_sums) + 1 if layout.tapped else 0


def _weights_on_device(statistics: Statistics) -> list[int]:
    if statistics.row.is_cpu:
        return []
    return [t for t, weight in enumerate(statistics.weights) if isinstance(weight, Tensor)]


def _weights(statistics: Sequence[Statistics], held: Numbers) -> Numbers:
    """``[N, T]``."""
    on_device = _weights_on_device(statistics[0])
    if not on_device:
        rows = [s.weights for s in statistics]
        return np.array(rows, np.float64).reshape(len(rows), -1)
    weights = np.empty((len(statistics), len(statistics[0].weights)))
    weights[:, on_device] = held
    for term in set(range(weights.shape[1])) - set(on_device):
        weights[:, term] = [s.weights[term] for s in statistics]
    return weights


def _squared_norms(
    layout: Layout, weights: Numbers, known: Numbers, brought: Numbers
) -> tuple[Numbers, NDArray[np.bool_]]:
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


def _squared_sums(layout: Layout, known_sums: Numbers, brought: Numbers) -> Numbers:
    """``[N]`` of the total's gradient; NaN where not measured."""
    squares: Numbers = (known_sums**2).sum(axis=1)
    if layout.tapped:
        first, scale = len(layout.tapped), np.where(brought[:, -1:] == 0, np.nan, brought[:, -1:])
        squares += ((brought[:, first:-1] / scale) ** 2).sum(axis=1)
    return squares if layout.tensors else np.full(len(squares), np.nan)


def _known_flags(layout: Layout, extremes: Numbers) -> NDArray[np.int32]:
    flags = np.zeros((len(extremes), len(layout.terms)), np.int32)
    flags[:, ~np.array(layout.enabled, bool)] |= TermFlag.DISABLED
    if np.isfinite(extremes).all():
        return flags
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


def _as_measured(numbers: Numbers) -> Numbers:
    """Rounded to float32's 24 digits, in float64's range: digits that nobody measured are noise.

    Zero bits instead of them make a batch a quarter smaller when it is compressed.
    """
    bits = np.ascontiguousarray(numbers).view(np.int64) + (1 << (_ROUNDED_BITS - 1))
    rounded = (bits & -(1 << _ROUNDED_BITS)).view(np.float64)
    return np.where(np.isfinite(numbers) & np.isfinite(rounded), rounded, numbers)


def _unchanged(numbers: Numbers) -> Numbers:
    return numbers


def _traces(rows: Sequence[Row]) -> tuple[Trace, ...]:
    # Steps of one span share OpenTelemetry's context, and most often nobody traces at all.
    contexts = [row[3].run(get_current) for row in rows]
    traces = {id(context): _trace(context) for context in {id(c): c for c in contexts}.values()}
    return tuple(traces[id(context)] for context in contexts)


def _trace(context: TelemetryContext) -> Trace:
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None
    return span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")
