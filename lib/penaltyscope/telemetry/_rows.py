"""Evaluations as the training thread left them, and their numbers side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter

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


@dataclass(slots=True)
class Stretch:
    """Evaluations of one kind in order, column by column."""

    rows: Sequence[Row]
    pipelines: Sequence[Pipeline]
    seq: Sequence[int]
    statistics: Sequence[Statistics]
    contexts: Sequence[Context | None]
    marks: Sequence[object]
    layouts: Sequence[Layout]
    bases: Sequence[bool]
    numbers: Sequence[bytes | Tensor]
    weights: Sequence[tuple[float | Tensor, ...]]
    stamps: Sequence[bytes]

    @property
    def at_hand(self) -> bool:
        """Whether no tensor has to be touched for the numbers."""
        # Those of one kind are all of one type.
        return not self.layouts[0].tapped and isinstance(self.numbers[0], bytes)


STAMP = 4
"""Cells of one evaluation before its numbers: step, start and stop, which are int64, and
duration."""
_COLUMNS = attrgetter("layout", "has_base", "numbers", "weights", "stamp")


def stretches(rows: Sequence[Row]) -> list[Stretch]:
    """The rows in order, cut where the pipeline, its layout or the kind of its weights changes."""
    if not rows:
        return []
    whole = stretch(rows)
    columns = whole.pipelines, whole.layouts, whole.bases
    same = all(column.count(column[0]) == len(rows) for column in columns)
    if same and set(map(type, whole.numbers)) == {bytes}:  # as most often
        return [whole]
    return [stretch(list(part)) for _, part in groupby(rows, key=_kind)]


def stretch(rows: Sequence[Row]) -> Stretch:
    """Rows of one kind, at least one, column by column."""
    # All in one pass: after a second of training each of these objects has to be fetched.
    columns = zip(*rows, strict=True)
    statistics = [row[2] for row in rows]
    return Stretch(rows, *columns, *zip(*map(_COLUMNS, statistics), strict=True))


def _kind(row: Row) -> tuple[object, ...]:
    statistics = row[2]
    at_hand = isinstance(statistics.numbers, bytes)
    kind = id(row[0]), id(statistics.layout), statistics.has_base, at_hand
    if statistics.on_host:
        return kind
    return *kind, *(isinstance(weight, Tensor) for weight in statistics.weights)


def cells_at_hand(rows: Stretch) -> Numbers:
    """The cells of rows that are at hand."""
    pairs = zip(rows.stamps, rows.numbers, strict=True)
    return _side_by_side(chain.from_iterable(pairs), len(rows.seq))  # type: ignore[arg-type]


def cells_of(rows: Stretch, numbers: Numbers) -> Numbers:
    """The cells of rows whose numbers were gathered."""
    return np.hstack((_side_by_side(rows.stamps, len(rows.seq)), numbers))


def _side_by_side(parts: Iterable[bytes], count: int) -> Numbers:
    together = b"".join(parts)
    return np.ndarray((count, len(together) // (8 * count)), np.float64, together)


def gather(rows: Stretch) -> Tensor:
    """``[N, W]``: the rows' numbers side by side on their device: forward, weights, backward."""
    statistics = rows.statistics
    parts = [_forward(rows.numbers)]
    for held in zip(*map(_held, statistics), strict=True):
        # A weight may live on another device than the numbers.
        parts.append(_stacked([weight.to(parts[0]).reshape(1) for weight in held]))
    if width := brought_width(statistics[0].layout):
        taps = [None if s.tap is None else s.tap.numbers for s in statistics]
        if (like := next((row for row in taps if row is not None), None)) is not None:
            # A scale of 0 says that nothing was measured.
            nothing = bytes(8 * width) if isinstance(like, bytes) else like.new_zeros(width)
            brought = _forward([nothing if row is None else row for row in taps])
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
