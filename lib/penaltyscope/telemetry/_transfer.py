"""From where an evaluation left its numbers to the host, with nobody waiting for the device."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]
"""``[N, W]``, a row for each evaluation."""


class Copy(Protocol):
    """Numbers on their way."""

    def ready(self) -> bool:
        """Whether they have arrived; does not wait."""

    def numbers(self) -> Numbers:
        """The numbers, once ``ready``; may be called once."""


class Transfer(Protocol):
    """Brings numbers from one device.

    The recorder's thread alone calls it, but for ``mark`` and ``capturing``.
    """

    def mark(self) -> object:
        """What orders this moment of the training thread: copies that get it wait for it."""

    def capturing(self, mark: object) -> bool:
        """Whether what the training thread launches there is captured into a graph now."""

    def begin(self, gather: Callable[[], Tensor], marks: Collection[object]) -> Copy | None:
        """Starts to copy what ``gather`` returns, or returns None where there is no room now."""


class HostTransfer:
    """The numbers are here already."""

    def mark(self) -> None:
        """Nothing: what the training thread has done is done."""

    def capturing(self, mark: object) -> bool:
        """Never."""
        del mark
        return False

    def begin(self, gather: Callable[[], Tensor], marks: Collection[object]) -> Copy | None:
        """Takes the numbers at once."""
        del marks
        numbers = gather()
        # Even a conversion to what it is costs more than many of the rows.
        return Arrived((numbers if numbers.dtype == torch.float64 else numbers.double()).numpy())


class Arrived:
    """Numbers that are here."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def ready(self) -> bool:
        """Always."""
        return True

    def numbers(self) -> Numbers:
        """The numbers."""
        return self._numbers
