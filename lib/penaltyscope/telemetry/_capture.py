"""Evaluations that a CUDA graph replays, which no Python sees.

While a graph is captured, the recorder adds what it would have done to the graph itself: the step's
numbers are copied into the next slot of a ring on the device, whose index is counted on the device
too. From then on the host looks at the ring now and then, and learns from the count how many
replays there were since. Reference: PyTorch, "CUDA semantics", on CUDA graphs: captured memory must
have been there before, and nothing may wait for the device.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Layout, Statistics, stamped
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._columns import steps_of
from penaltyscope.telemetry._rows import Row, cells_of, forward_parts, stretch, width
from penaltyscope.telemetry._spanned import ReadContext
from penaltyscope.telemetry._transfer import Copy, Numbers, Transfer

_logger = logging.getLogger("penaltyscope")

_CAPACITY = 2048


class CapturedRing:
    """``capacity`` rows of ``width`` numbers on a device, written by a graph, read by the host."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self._capacity = capacity
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        self._rows = torch.zeros(capacity, width, dtype=torch.float64, device=device)
        self._forward_width = width
        self._counted = 0
        self.seen = 0
        """How many replays were read, or lost."""

    def write(self, parts: list[Tensor]) -> Tensor:
        """Puts a row's first numbers into the next slot; returns the slot, for ``settle``.

        Called while the graph is captured; each replay does it again.
        """
        slot = self._count.remainder(self._capacity)
        row = torch.cat([part.detach().reshape(-1).to(self._rows) for part in parts])
        self._forward_width = len(row)
        # A scale of 0 at the end says that no backward pass has come through.
        rest = row.new_zeros(self._rows.shape[1] - len(row))
        self._rows.index_copy_(0, slot, torch.cat((row, rest)).unsqueeze(0))
        self._count.add_(1)
        return slot

    def settle(self, slot: Tensor, row: Tensor) -> None:
        """Puts the numbers beside them that the backward pass has brought."""
        rest = self._rows[:, self._forward_width :]
        rest.index_copy_(0, slot, row.detach().to(self._rows).unsqueeze(0))

    def snapshot(self) -> Tensor:
        """All that the host needs to know, as one tensor; launched on the current stream."""
        # The count before and after: replays may go on on another stream meanwhile.
        before = self._count.to(torch.float64)
        rows = self._rows.flatten().clone()
        after = self._count.to(torch.float64)
        return torch.cat((before, rows, after))

    def read(self, snapshot: Numbers) -> tuple[int, Numbers]:
        """The number of the first replay that is new in a snapshot, and their rows."""
        before, after = int(snapshot[0]), int(snapshot[-1])
        rows = snapshot[1:-1].reshape(self._capacity, -1)
        # The newest may still wait for its backward pass, unless nothing has moved since the last
        # look; the slot of the next may be half overwritten, and held the oldest.
        complete = before if before == self._counted else before - 1
        first = max(self.seen, after - self._capacity + 1)
        index = np.arange(first, max(complete, first))
        self._counted, self.seen = before, first + len(index)
        return first, rows[index % self._capacity]


@dataclass(slots=True)
class _Captured:
    """One captured evaluation and its ring."""

    row: Row
    ring: CapturedRing
    transfer: Transfer
    looked_ns: int
    """When the host looked last, Unix time in nanoseconds."""
    copy: Copy | None = None


class Captures:
    """All captured evaluations of a recorder; ``look`` and ``collect`` are for its thread alone."""

    def __init__(
        self, incarnation: str, time_ns: Callable[[], int], read_context: ReadContext
    ) -> None:
        self._incarnation = incarnation
        self._time_ns = time_ns
        self._read_context = read_context
        self._spares: dict[tuple[int, bool], tuple[Layout, CapturedRing]] = {}
        """By the layout that they fit and whether there is a base loss; the layout is held, lest
        another gets its id."""
        self.captured: list[_Captured] = []
        """Empty where there is nothing to look at."""
        self.lost = 0
        """Replays that were overwritten before they were seen."""

    @property
    def waiting(self) -> bool:
        """Whether a look is underway."""
        return any(captured.copy is not None for captured in self.captured)

    def prepare(self, statistics: Statistics) -> None:
        """Sees to it that a ring is there if the next evaluation like this one is captured."""
        layout = statistics.layout
        key = id(layout), statistics.has_base
        if key not in self._spares:
            ring = CapturedRing(_CAPACITY, width(statistics), statistics.device)
            self._spares[key] = layout, ring

    def capture(self, pipeline: Pipeline, statistics: Statistics, transfer: Transfer) -> None:
        """Adds the recording of this evaluation to the graph that is being captured."""
        _, ring = self._spares.pop((id(statistics.layout), statistics.has_base), (None, None))
        if ring is None:
            # Memory for it cannot be had now: the graph would clear it at every replay.
            _logger.warning(
                "%r was captured without an evaluation before; replays are not recorded", pipeline
            )
            return
        slot, tap = ring.write(forward_parts(statistics)), statistics.tap
        if tap is not None:

            def settle() -> None:
                if tap.row is not None:
                    ring.settle(slot, tap.row)

            tap.on_settled = settle
        row = pipeline, 0, statistics, self._read_context(None), transfer.mark()
        self.captured.append(_Captured(row, ring, transfer, self._time_ns()))

    def look(self) -> None:
        """Begins to bring the rings to the host."""
        for captured in self.captured:
            if captured.copy is None and not captured.transfer.capturing(captured.row[4]):
                captured.copy = captured.transfer.begin(captured.ring.snapshot, ())

    def collect(self) -> list[Steps]:
        """The columns of the replays that a look has found."""
        found: list[Steps] = []
        for number, captured in enumerate(self.captured):
            if captured.copy is not None and captured.copy.ready():
                found += self._read(number, captured, captured.copy.numbers())
                captured.copy = None
        return found

    def _read(self, number: int, captured: _Captured, snapshot: Numbers) -> list[Steps]:
        seen = captured.ring.seen
        first, numbers = captured.ring.read(snapshot)
        self.lost += first - seen
        now, before = self._time_ns(), captured.looked_ns
        captured.looked_ns = now
        # Nobody on the host saw when they were: evenly spread since the last look.
        times = np.linspace(before, now, len(numbers) + 1)[1:].astype(np.int64).tolist()
        pipeline, _, statistics, context, mark = captured.row
        rows: list[Row] = []
        for seq, stop_ns in enumerate(times, start=first):
            step = statistics.step + seq
            at = replace(statistics, step=step, stamp=stamped(step, stop_ns, 0.0))
            rows.append((pipeline, seq, at, context, mark))
        # Numbered on the device, so in an incarnation of their own.
        if not rows:
            return []
        together = stretch(rows)
        cells = cells_of(together, numbers)
        return [steps_of(together, cells, f"{self._incarnation}-{number}")]
