"""Brings the numbers of evaluations to the host, in order, and makes columns of them."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._columns import steps_of
from penaltyscope.telemetry._cuda import CudaDevice, DeviceTransfer
from penaltyscope.telemetry._rows import (
    Row,
    Stretch,
    cells_at_hand,
    cells_of,
    gather,
    stretches,
)
from penaltyscope.telemetry._transfer import Copy, HostTransfer, Numbers, Transfer

_logger = logging.getLogger("penaltyscope")


@dataclass(slots=True)
class _Load:
    """A stretch of rows; they hold the tensors that the copy reads."""

    rows: Stretch
    copy: Copy | None = None


class Carrier:
    """Holds what is underway.

    The recorder's thread alone uses it, but for ``transfer`` and ``carries``.
    """

    def __init__(
        self, incarnation: str, make_transfer: Callable[[torch.device], Transfer] | None = None
    ) -> None:
        self._incarnation = incarnation
        self._make_transfer = make_transfer or _transfer
        self._transfers: dict[torch.device, Transfer] = {}
        self._loads: deque[_Load] = deque()
        self.lost = 0
        """Evaluations that could not be read."""

    @property
    def waiting(self) -> int:
        """Evaluations that have not arrived yet."""
        return sum(len(load.rows.seq) for load in self._loads) if self._loads else 0

    def transfer(self, device: torch.device) -> Transfer:
        """The way from a device."""
        if device not in self._transfers:
            self._transfers[device] = self._make_transfer(device)
        return self._transfers[device]

    def carries(self, device: torch.device) -> bool:
        """Whether numbers of the device are not on the host anyway."""
        return not isinstance(self.transfer(device), HostTransfer)

    def bring(self, rows: Sequence[Row]) -> list[Steps]:
        """Takes rows on their way; the columns of what has arrived. Waits for nothing."""
        try:
            self._loads.extend(map(_Load, stretches(rows)))
        except Exception:
            self.lost += len(rows)
            _logger.exception("%d steps are lost", len(rows))
        arrived: list[Steps] = []
        while self._loads:
            part = self._loads[0].rows
            try:
                if (cells := self._cells(self._loads[0])) is None:
                    break
                arrived.append(steps_of(part, cells, self._incarnation))
            except Exception:
                self.lost += len(part.seq)
                _logger.exception("%d steps are lost", len(part.seq))
            self._loads.popleft()
        return arrived

    def _cells(self, load: _Load) -> Numbers | None:
        if load.rows.at_hand:
            return cells_at_hand(load.rows)
        self._begin()
        if load.copy is None or not load.copy.ready():
            return None
        return cells_of(load.rows, load.copy.numbers())

    def _begin(self) -> None:
        for load in self._loads:
            if load.copy is None and not load.rows.at_hand:
                device = load.rows.statistics[0].device
                marks = set(load.rows.marks)
                load.copy = self.transfer(device).begin(partial(gather, load.rows), marks)
                if load.copy is None:
                    return


def _transfer(device: torch.device) -> Transfer:
    return DeviceTransfer(CudaDevice(device)) if device.type == "cuda" else HostTransfer()
