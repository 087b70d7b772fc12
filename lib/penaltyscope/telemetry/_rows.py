"""Evaluations as the training thread left them, and their numbers side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from opentelemetry.context import Context
from torch import Tensor

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Layout, Statistics
from penaltyscope.telemetry._transfer import Numbers

Row = tuple[Pipeline, int, Statistics, Context | None, object]
"""One evaluation: pipeline, seq, numbers, OpenTelemetry's context if there is one, and what a copy
of its numbers has to wait for."""

Alike = tuple[Row, int, bytes]
"""One evaluation of which another, of the same pipeline, tells all but the seq and the cells."""


@dataclass(slots=True)
class Stretch:
    """Evaluations of one kind in order."""

    pipeline: Pipeline
    first: Statistics
    """Of one of them."""
    seq: Sequence[int]
    contexts: Sequence[Context | None]
    weights: Sequence[tuple[float | Tensor, ...]]
    cells: Sequence[bytes]
    """As ``cells_at_hand`` joins them; without numbers where those are in tensors."""
    rows: Sequence[Row]
    """Empty where no tensor has to be touched for the numbers."""


STAMP = 4
"""Cells of one evaluation before its numbers: step, start and stop, which are int64, and
duration."""


def stretches(rows: Sequence[Row | Alike]) -> list[Stretch]:
    """The rows in order, cut where the pipeline, its layout or the kind of its weights changes."""
    if not rows:
        return []
    like = rows[0][0]
    if isinstance(like, tuple) and [row[0] for row in rows].count(like) == len(rows):
        return [_stretch_alike(rows)]  # as most often
    return [stretch(list(part)) for _, part in groupby(rows, key=_kind)]


def all_alike(rows: Sequence[Row | Alike]) -> bool:
    """Whether each is like another."""
    return set(map(len, rows)) == {3}


def at_hand(statistics: Statistics) -> bool:
    """Whether no tensor has to be touched for the numbers."""
    return not statistics.layout.tapped and isinstance(statistics.numbers, bytes)


def stretch(rows: Sequence[Row | Alike]) -> Stretch:
    """Rows of one kind, at least one."""
    whole = [row[0] if len(row) == 3 else row for row in rows]
    pipelines, _, statistics, contexts, _ = zip(*whole, strict=True)
    here = at_hand(statistics[0])
    return Stretch(
        pipeline=pipelines[0],
        first=statistics[0],
        seq=[row[1] for row in rows],
        contexts=contexts,
        weights=[one.weights for one in statistics],
        cells=[row[2] if len(row) == 3 else _cells(row[2], with_numbers=here) for row in rows],
        rows=() if here else whole,
    )


def _stretch_alike(rows: Sequence[Row | Alike]) -> Stretch:
    # After a second of training each object has to be fetched: of these there are the fewest.
    (like, *_), seq, cells = zip(*rows, strict=True)
    pipeline, _, first, context, _ = like
    count = len(rows)
    return Stretch(pipeline, first, seq, (context,) * count, (first.weights,) * count, cells, ())


def _cells(statistics: Statistics, *, with_numbers: bool) -> bytes:
    numbers = statistics.numbers
    return statistics.stamp + numbers if with_numbers else statistics.stamp  # type: ignore[operator]


def _kind(row: Row | Alike) -> tuple[object, ...]:
    pipeline, _, statistics, *_ = row[0] if len(row) == 3 else row
    kind = id(pipeline), id(statistics.layout), statistics.has_base, at_hand(statistics)
    if statistics.on_host:
        return kind
    return *kind, *(isinstance(weight, Tensor) for weight in statistics.weights)


def cells_at_hand(rows: Stretch) -> Numbers:
    """The cells of rows that are at hand; of others those before their numbers."""
    together = b"".join(rows.cells)
    count = len(rows.seq)
    return np.ndarray((count, len(together) // (8 * count)), np.float64, together)


def cells_of(rows: Stretch, numbers: Numbers) -> Numbers:
    """The cells of rows whose numbers were gathered."""
    return np.hstack((cells_at_hand(rows), numbers))


def gather(rows: Stretch) -> Tensor:
    """``[N, W]``: the rows' numbers side by side on their device: forward, weights, backward."""
    statistics = [row[2] for row in rows.rows]
    parts = [_forward([s.numbers for s in statistics])]
    for held in zip(*map(_held, statistics), strict=True):
        # A weight may live on another device than the numbers.
        parts.append(_stacked([weight.to(parts[0]).reshape(1) for weight in held]))
    if width := brought_width(statistics[0].layout):
        taps = [None if s.tap is None else s.tap.row for s in statistics]
        if (like := next((row for row in taps if row is not None), None)) is not None:
            # A scale of 0 says that nothing was measured.
            nothing = like.new_zeros(width)
            brought = _stacked([nothing if row is None else row for row in taps])
            parts.append(brought.to(parts[0].device))
    return parts[0] if len(parts) == 1 else torch.cat([part.double() for part in parts], dim=1)


def _forward(numbers: Sequence[bytes | Tensor]) -> Tensor:
    if isinstance(numbers[0], Tensor):
        return _stacked(numbers)  # type: ignore[arg-type]  # those of one kind are all of one type
    together = bytearray().join(numbers)  # type: ignore[arg-type]
    return torch.frombuffer(together, dtype=torch.float64).view(len(numbers), -1)


def width(statistics: Statistics) -> int:
    """``W`` of what ``gather`` returns, after a backward pass."""
    forward = sum(part.numel() for part in forward_parts(statistics))
    return forward + brought_width(statistics.layout)


def forward_parts(statistics: Statistics) -> list[Tensor]:
    """What is on the device when the evaluation ends: its row, and weights that are tensors."""
    return [statistics.row, *_held(statistics)]


def weights_on_device(statistics: Statistics) -> list[int]:
    """The terms whose weights are tensors there."""
    if statistics.on_host:
        return []
    return [t for t, weight in enumerate(statistics.weights) if isinstance(weight, Tensor)]


def brought_width(layout: Layout) -> int:
    """How many numbers the backward pass brings."""
    return len(layout.tapped) + len(layout.tapped_sums) + 1 if layout.tapped else 0


def _held(statistics: Statistics) -> list[Tensor]:
    if statistics.on_host:
        return []
    return [weight for weight in statistics.weights if isinstance(weight, Tensor)]


def _stacked(rows: list[Tensor]) -> Tensor:
    # stack() would make a view of each before.
    return torch.cat(rows).view(len(rows), -1)
