"""Numbers from a GPU, on a stream of our own, into pinned memory.

The copy waits on the device for the stream that made the numbers, and an event tells when it is
done; nobody waits on the host. References: PyTorch, "CUDA semantics" (streams, pinned memory);
``torch.cuda.Event.query``.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from penaltyscope.telemetry._transfer import Copy, Numbers

_SLOTS = 3
_SLOT_ELEMENTS = 1 << 15
"""Of a pinned slot at first: 256 evaluations of 128 numbers."""


class Event(Protocol):
    """The part of ``torch.cuda.Event`` that is used here."""

    def query(self) -> bool:
        """Whether it has happened; does not wait."""


class Device(Protocol):
    """The part of ``torch.cuda`` that is used here; tests have one without a GPU."""

    def current_stream(self) -> object:
        """That of the calling thread."""

    def side_stream(self) -> object:
        """A new stream."""

    def capturing(self, stream: object) -> bool:
        """Whether a graph is being captured from the stream."""

    def use(self, stream: object) -> AbstractContextManager[object]:
        """What is launched inside goes to the stream."""

    def wait(self, stream: object, other: object) -> None:
        """Makes a stream wait, on the device, for all work that the other holds now."""

    def event(self, stream: object) -> Event:
        """Happens when all work that the stream holds now is done."""

    def pinned(self, elements: int) -> Tensor:
        """``float64[elements]`` in page-locked memory."""


class CudaDevice:
    """One GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def current_stream(self) -> object:
        """That of the calling thread."""
        return torch.cuda.current_stream(self._device)

    def capturing(self, stream: object) -> bool:
        """Asks nothing that would itself disturb a capture."""
        with torch.cuda.stream(stream):  # type: ignore[arg-type]
            return torch.cuda.is_current_stream_capturing()

    def side_stream(self) -> object:
        """A new stream."""
        return torch.cuda.Stream(self._device)

    def use(self, stream: object) -> AbstractContextManager[object]:
        """Also makes the stream's device the current one."""
        return torch.cuda.stream(stream)  # type: ignore[arg-type]

    def wait(self, stream: object, other: object) -> None:
        """Makes a stream wait, on the device, for all work that the other holds now."""
        stream.wait_stream(other)  # type: ignore[attr-defined]

    def event(self, stream: object) -> Event:
        """Happens when all work that the stream holds now is done."""
        event = torch.cuda.Event()
        event.record(stream)  # type: ignore[arg-type]
        return event

    def pinned(self, elements: int) -> Tensor:
        """``float64[elements]`` in page-locked memory."""
        return torch.empty(elements, dtype=torch.float64, pin_memory=True)


class DeviceTransfer:
    """Copies through a few pinned slots; while all are on their way, the next has to wait."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stream: object = None
        self._slots: list[Tensor] = []

    def mark(self) -> object:
        """The stream that the training thread launches on."""
        return self._device.current_stream()

    def capturing(self, mark: object) -> bool:
        """Whether a graph is being captured from that stream."""
        return self._device.capturing(mark)

    def begin(self, gather: Callable[[], Tensor], marks: Collection[object]) -> Copy | None:
        """Launches the copy."""
        if self._stream is None:
            # Not before: the first evaluation may be one that is captured, and allocates nothing.
            self._stream = self._device.side_stream()
            self._slots = [self._device.pinned(_SLOT_ELEMENTS) for _ in range(_SLOTS)]
        if not self._slots:
            return None
        slot = self._slots.pop()
        with self._device.use(self._stream):
            for stream in set(marks) - {None}:
                self._device.wait(self._stream, stream)
            numbers = gather().to(torch.float64)
            if numbers.numel() > slot.numel():
                slot = self._device.pinned(numbers.numel())
            target = slot[: numbers.numel()].view(numbers.shape)
            target.copy_(numbers, non_blocking=True)
            done = self._device.event(self._stream)
        return _Underway(done, target, lambda: self._slots.append(slot))


class _Underway:
    def __init__(self, done: Event, target: Tensor, give_back: Callable[[], None]) -> None:
        self._done = done
        self._target = target
        self._give_back = give_back

    def ready(self) -> bool:
        return self._done.query()

    def numbers(self) -> Numbers:
        numbers: Numbers = self._target.numpy().copy()
        self._give_back()
        return numbers
