"""Brings the numbers of evaluations to the host, in order, and makes columns of them."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._columns import block
from penaltyscope.telemetry._cuda import CudaDevice, DeviceTransfer
from penaltyscope.telemetry._rows import Row, Stretch, at_hand, gather, stretches
from penaltyscope.telemetry._transfer import Arrived, Copy, HostTransfer, Transfer

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

    def put(self, rows: Sequence[Row]) -> None:
        """Takes the rows on their way."""
        try:
            self._loads.extend([_Load(part) for part in stretches(rows)])
        except Exception:
            self.lost += len(rows)
            _logger.exception("%d steps are lost", len(rows))

    def collect(self) -> list[Steps]:
        """The columns of what has arrived; waits for nothing."""
        arrived: list[Steps] = []
        while self._loads:
            load = self._loads[0]
            try:
                self._begin()
                if load.copy is None or not load.copy.ready():
                    break
                arrived.append(block(load.rows, load.copy.numbers(), self._incarnation))
            except Exception:
                self.lost += len(load.rows.seq)
                _logger.exception("%d steps are lost", len(load.rows.seq))
            self._loads.popleft()
        return arrived

    def _begin(self) -> None:
        for load in self._loads:
            if load.copy is None:
                load.copy = self._copy(load.rows)
                if load.copy is None:
                    return

    def _copy(self, rows: Stretch) -> Copy | None:
        if (numbers := at_hand(rows)) is not None:
            return Arrived(numbers)
        device = rows.statistics[0].device
        return self.transfer(device).begin(partial(gather, rows), set(rows.marks))


def _transfer(device: torch.device) -> Transfer:
    return DeviceTransfer(CudaDevice(device)) if device.type == "cuda" else HostTransfer()
