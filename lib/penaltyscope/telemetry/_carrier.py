"""Brings the numbers of evaluations to the host, in order, and makes columns of them."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from penaltyscope.telemetry._alike import steps_alike
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
from penaltyscope.telemetry._transfer import Copy, HostTransfer, Transfer

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
        self.underway: deque[_Load] = deque()
        """What has not arrived yet."""
        self.lost = 0
        """Evaluations that could not be read."""

    @property
    def waiting(self) -> int:
        """Evaluations that have not arrived yet."""
        return sum(len(load.rows.seq) for load in self.underway)

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
            if rows and not self.underway:  # as most often, and these are most often alike
                steps = steps_alike(rows, self._incarnation)
                if steps is not None:
                    return [steps]
            self.underway.extend(map(_Load, stretches(rows)))
        except Exception:
            self.lost += len(rows)
            _logger.exception("%d steps are lost", len(rows))
        arrived: list[Steps] = []
        while self.underway:
            part = self.underway[0].rows
            try:
                if (steps := self._steps(self.underway[0])) is None:
                    break
                arrived.append(steps)
            except Exception:
                self.lost += len(part.seq)
                _logger.exception("%d steps are lost", len(part.seq))
            self.underway.popleft()
        return arrived

    def _steps(self, load: _Load) -> Steps | None:
        rows = load.rows
        if rows.at_hand:
            alike = steps_alike(rows.rows, self._incarnation)
            return alike or steps_of(rows, cells_at_hand(rows), self._incarnation)
        self._begin()
        copy = load.copy
        if copy is None or not copy.ready():
            return None
        return steps_of(rows, cells_of(rows, copy.numbers()), self._incarnation)

    def _begin(self) -> None:
        for load in self.underway:
            if load.copy is None and not load.rows.at_hand:
                device = load.rows.statistics[0].device
                marks = set(load.rows.marks)
                load.copy = self.transfer(device).begin(partial(gather, load.rows), marks)
                if load.copy is None:
                    return


def _transfer(device: torch.device) -> Transfer:
    return DeviceTransfer(CudaDevice(device)) if device.type == "cuda" else HostTransfer()
