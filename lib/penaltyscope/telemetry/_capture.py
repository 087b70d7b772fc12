"""Evaluations that a CUDA graph replays, which no Python sees.

While a graph is captured, the recorder adds what it would have done to the graph itself: the step's
numbers are copied into the next slot of a ring on the device, whose index is counted on the device
too. From then on the host looks at the ring now and then, and learns from the count how many
replays there were since. Reference: PyTorch, "CUDA semantics", on CUDA graphs: captured memory must
have been there before, and nothing may wait for the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from penaltyscope.telemetry._transfer import Numbers

_UNSETTLED, _SETTLED = 0.0, 1.0


class Replays(NamedTuple):
    """What came into a ring since the last look."""

    first: int
    """The number of the first one, counted from the capture on."""
    numbers: Numbers
    """``[N, W]``."""
    lost: int
    """How many were overwritten before they were seen."""


class CapturedRing:
    """``capacity`` rows of ``width`` numbers on a device, written by a graph, read by the host."""

    def __init__(self, capacity: int, width: int, device: torch.device) -> None:
        self.width = width
        self._capacity = capacity
        self._count = torch.zeros(1, dtype=torch.int64, device=device)
        # The last column says whether the backward pass has come through.
        self._rows = torch.zeros(capacity, width + 1, dtype=torch.float64, device=device)
        self._settled = torch.full((1, 1), _SETTLED, dtype=torch.float64, device=device)
        self._forward_width = width
        self._seen = 0

    def write(self, parts: Sequence[Tensor]) -> Tensor:
        """Puts a row's first numbers into the next slot; returns the slot, for ``settle``.

        Called while the graph is captured; each replay does it again.
        """
        slot = self._count.remainder(self._capacity)
        row = torch.cat([part.detach().reshape(-1).to(self._rows) for part in parts])
        self._forward_width = len(row)
        padding = row.new_zeros(self.width + 1 - len(row))
        self._rows.index_copy_(0, slot, torch.cat((row, padding)).unsqueeze(0))
        self._count.add_(1)
        return slot

    def settle(self, slot: Tensor, row: Tensor) -> None:
        """Puts the rest of the numbers beside them, once the backward pass has brought them."""
        first = self._forward_width
        rest = torch.cat((row.detach().to(self._rows).unsqueeze(0), self._settled), dim=1)
        self._rows[:, first:].index_copy_(0, slot, rest)

    def snapshot(self) -> Tensor:
        """All that the host needs to know, as one tensor; launched on the current stream."""
        # The count before and after: replays may go on on another stream meanwhile.
        before = self._count.to(torch.float64)
        rows = self._rows.flatten().clone()
        after = self._count.to(torch.float64)
        return torch.cat((before, rows, after))

    def read(self, snapshot: Numbers, *, settles: bool) -> Replays:
        """The replays that are complete in a snapshot and were not in an earlier one.

        Args:
            snapshot: from ``snapshot``, brought to the host.
            settles: whether ``settle`` was captured too, so that rows without it are not complete.
        """
        before, after = int(snapshot[0]), int(snapshot[-1])
        rows = snapshot[1:-1].reshape(self._capacity, -1)
        # The slot of replay `after` may be half overwritten, and it held the one a round before.
        oldest = max(self._seen, after - self._capacity + 1)
        index = np.arange(oldest, before)
        if settles:
            open_ = np.flatnonzero(rows[index % self._capacity, -1] == _UNSETTLED)
            # A row that newer ones have passed has no backward pass and waits for none.
            done = np.flatnonzero(rows[index % self._capacity, -1] == _SETTLED)
            last = done[-1] + 1 if len(done) else 0
            index = index[:last] if len(open_) else index
        lost = oldest - self._seen
        self._seen = oldest + len(index)
        return Replays(oldest, rows[index % self._capacity, :-1], lost)
