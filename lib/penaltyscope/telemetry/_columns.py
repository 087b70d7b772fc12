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

_FRACTION_BITS = 52
"""Of a double."""
_NUMBER_BITS = 23
"""Of a float32: digits that nobody computed are noise."""
_NORM_BITS = 20
"""Of a norm or a duration: half a millionth, since a float32 sum of squares is no better."""
_LARGE_SCALE = 256.0
"""A gradient scaler starts at 65,536; what people multiply a loss by themselves is smaller."""


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


def width(statistics: Statistics) -> int:
    """``W`` of what ``gather`` returns, after a backward pass."""
    forward = sum(part.numel() for part in forward_parts(statistics))
    return forward + _brought_width(statistics.layout)


def forward_parts(statistics: Statistics) -> list[Tensor]:
    """What is on the device when the evaluation ends: its row, and weights that are tensors."""
    return [statistics.row, *_held(statistics)]


def gather(rows: Sequence[Row]) -> Tensor:
    """``[N, W]``: the rows' numbers side by side on their device: forward, weights, backward."""
    statistics = [row[2] for row in rows]
    parts = [torch.stack([s.row for s in statistics])]
    for held in zip(*map(_held, statistics), strict=True):
        # A weight may live on another device than the numbers.
        parts.append(torch.stack([weight.to(parts[0]) for weight in held])[:, None])
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
    value, extremes, norms, sums, totals, held, brought = _split(first, numbers)
    weights = _weights(statistics, held)
    squares, measured = _squared_norms(layout, weights, norms, brought)
    sums = _squared_sums(layout, sums, brought)
    flags = _known_flags(layout, extremes)
    overflow = measured & _overflow(layout, value, squares, brought)
    if overflow.any():
        flags[overflow] |= TermFlag.GRADIENT_OVERFLOW
        squares[overflow] = np.nan
        sums[overflow.any(axis=1)] = np.nan
    flags[~measured | overflow] |= TermFlag.NORM_NOT_MEASURED
    terms = len(layout.terms)
    # Side by side, so that all are rounded at once.
    columns = np.empty((len(rows), 3 * terms + 4))
    columns[:, :terms] = value
    with np.errstate(invalid="ignore"):  # 0 * inf, where the product does not count
        np.multiply(weights, value, out=columns[:, terms : 2 * terms])
    columns[:, terms : 2 * terms][~(np.array(layout.active, bool) & (weights != 0))] = 0.0
    columns[:, 2 * terms] = totals[:, 0]
    columns[:, 2 * terms + 1] = totals[:, 1] if first.has_base else np.nan
    np.sqrt(squares, out=columns[:, 2 * terms + 2 : -2])
    np.sqrt(sums, out=columns[:, -2])
    columns[:, -1] = [s.duration for s in statistics]
    if first.dtype.itemsize <= torch.float32.itemsize:
        columns[:, : 2 * terms + 2] = _rounded(columns[:, : 2 * terms + 2], _NUMBER_BITS)
        columns[:, 2 * terms + 2 :] = _rounded(columns[:, 2 * terms + 2 :], _NORM_BITS)
    value, norm = columns[:, :terms], columns[:, 2 * terms + 2 : -2]
    return Steps(
        StepBlock(
            pipeline=rows[0][0].name,
            incarnation=incarnation,
            terms=layout.terms,
            step=np.array([s.step for s in statistics], np.int64),
            seq=np.array([row[1] for row in rows], np.int64),
            stop_ns=np.array([s.stop_ns for s in statistics], np.int64),
            duration=columns[:, -1],
            base=columns[:, 2 * terms + 1],
            has_base=np.full(len(rows), first.has_base),
            total=columns[:, 2 * terms],
            total_gradient_norm=columns[:, -2],
            value=value,
            weight=weights,
            contribution=columns[:, terms : 2 * terms],
            gradient_norm=norm,
            flags=complete_flags(flags, value, norm),
        ),
        *_traces(rows),
    )


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


def _held(statistics: Statistics) -> list[Tensor]:
    if statistics.row.is_cpu:
        return []
    return [weight for weight in statistics.weights if isinstance(weight, Tensor)]


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
    _add(squares, layout.known, known)
    if layout.tapped:
        terms = [term for term, _ in layout.tapped]
        scale = brought[:, -1:]
        measured[:, terms] &= scale != 0
        with np.errstate(divide="ignore", invalid="ignore"):  # only where it was not measured
            _add(squares, layout.tapped, brought[:, : len(terms)] / (weights[:, terms] * scale))
    squares[~measured] = np.nan
    return squares, measured


def _overflow(
    layout: Layout, value: Numbers, squares: Numbers, brought: Numbers
) -> NDArray[np.bool_]:
    """``[N, T]``: where a gradient is most likely not finite for its loss scale alone.

    A gradient scaler skips such a step and halves the scale, so one that has another reason goes on
    until the scale is small, and is a finding then.
    """
    found = np.zeros(value.shape, bool)
    if layout.tapped and not np.isfinite(brought).all():
        terms = [term for term, _ in layout.tapped]
        large = np.abs(brought[:, -1:]) >= _LARGE_SCALE
        found[:, terms] = large & np.isfinite(value[:, terms]) & ~np.isfinite(squares[:, terms])
    return found


def _add(squares: Numbers, places: Sequence[tuple[int, int]], norms: Numbers) -> None:
    terms = [term for term, _ in places]
    if len(set(terms)) == len(terms):
        squares[:, terms] += norms * norms
        return
    for column, term in enumerate(terms):
        squares[:, term] += norms[:, column] ** 2


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


def _rounded(numbers: Numbers, bits: int) -> Numbers:
    """Without the digits that mean nothing; zeros in their place compress much better.

    Args:
        numbers: of any size that float64 holds.
        bits: of the fraction that are kept.
    """
    dropped = _FRACTION_BITS - bits
    pattern = numbers.view(np.int64) + (1 << (dropped - 1))
    pattern &= -(1 << dropped)
    rounded = pattern.view(np.float64)
    finite = np.isfinite(rounded)
    # NaN and infinity have no digits, and the largest numbers must not become infinite.
    return rounded if finite.all() else np.where(finite & np.isfinite(numbers), rounded, numbers)


def _traces(rows: Sequence[Row]) -> tuple[tuple[Trace, ...], tuple[bool, ...]]:
    """The span of each step, and whether it is kept."""
    # Steps of one span share OpenTelemetry's context, and most often nobody traces at all.
    contexts = [row[3].run(get_current) for row in rows]
    traces = {id(context): _trace(context) for context in {id(c): c for c in contexts}.values()}
    each = [traces[id(context)] for context in contexts]
    return tuple(trace for trace, _ in each), tuple(sampled for _, sampled in each)


def _trace(context: TelemetryContext) -> tuple[Trace, bool]:
    span = get_current_span(context).get_span_context()
    if not span.is_valid:
        return None, True
    ids = span.trace_id.to_bytes(16, "big"), span.span_id.to_bytes(8, "big")
    return ids, span.trace_flags.sampled
