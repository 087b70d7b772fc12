"""The way from a device, with a device whose copies arrive when the test says so."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

import penaltyscope as ps
from penaltyscope.telemetry._cuda import Device, DeviceTransfer, Event
from penaltyscope.telemetry._transfer import Copy
from tests.lib.telemetry.test_recorder import Bench


class Arrival:
    """An event that happens when told."""

    happened = False

    def query(self) -> bool:
        return self.happened


class FakeDevice:
    """Launches at once, and completes when told."""

    def __init__(self) -> None:
        self.stream: object = "training"
        self.waits: list[tuple[object, object]] = []
        self.events: deque[Arrival] = deque()
        self.pinned_elements: list[int] = []
        self.is_capturing = False

    def current_stream(self) -> object:
        return self.stream

    def capturing(self, stream: object) -> bool:
        assert stream == self.stream
        return self.is_capturing

    def side_stream(self) -> object:
        return "side"

    def use(self, stream: object) -> AbstractContextManager[object]:
        assert stream == "side"
        return nullcontext()

    def wait(self, stream: object, other: object) -> None:
        self.waits.append((stream, other))

    def event(self, stream: object) -> Event:
        assert stream == "side"
        self.events.append(Arrival())
        return self.events[-1]

    def pinned(self, elements: int) -> Tensor:
        self.pinned_elements.append(elements)
        return torch.empty(elements, dtype=torch.float64)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.arange(float(torch.Size(shape).numel())).view(shape)


def begun(transfer: DeviceTransfer, gather: Callable[[], Tensor]) -> Copy:
    copy = transfer.begin(gather, [transfer.mark()])
    assert copy is not None
    return copy


def test_a_copy_waits_on_the_device_and_not_on_the_host(device: FakeDevice) -> None:
    transfer = DeviceTransfer(device)
    copy = begun(transfer, numbers(2, 3))
    assert device.waits == [("side", "training")]
    assert not copy.ready()
    device.events[0].happened = True
    assert copy.ready()
    assert copy.numbers().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_each_stream_is_waited_for_once(device: FakeDevice) -> None:
    DeviceTransfer(device).begin(numbers(1), ["a", "b", "a"])
    assert sorted(device.waits) == [("side", "a"), ("side", "b")]


def test_without_a_free_slot_nothing_is_launched(device: FakeDevice) -> None:
    transfer = DeviceTransfer(device)
    copies = [begun(transfer, numbers(1)) for _ in range(3)]
    assert transfer.begin(numbers(1), []) is None
    assert len(device.events) == 3
    copies[0].numbers()
    assert transfer.begin(numbers(1), []) is not None


def test_a_slot_that_is_too_small_is_replaced_once(device: FakeDevice) -> None:
    transfer = DeviceTransfer(device)
    for _ in range(2):
        copy = begun(transfer, numbers(300, 300))
        assert copy.numbers()[-1, -1] == 89_999
    assert device.pinned_elements[3:] == [90_000]


class DeviceBench(Bench):
    """Steps whose numbers are taken for a device's."""

    def __init__(self, device: Device, *, capacity: int = 8192) -> None:
        super().__init__(capacity=capacity, make_transfer=lambda _: DeviceTransfer(device))


def test_steps_arrive_in_order_when_their_copies_do(device: FakeDevice) -> None:
    bench = DeviceBench(device)
    for _ in range(2):
        bench.step()
        assert bench.drain() == []
    device.events[1].happened = True
    assert bench.drain() == [], "the second does not overtake the first"
    device.events[0].happened = True
    assert bench.drain() == [0, 1]
    assert bench.channel.flags == [[0], [0]]


def test_while_copies_are_stuck_the_ring_drops_the_oldest_and_training_goes_on(
    device: FakeDevice,
) -> None:
    bench = DeviceBench(device, capacity=64)
    for _ in range(20):
        for _ in range(64):
            bench.step()
        bench.drain()
    assert len(device.events) == 3
    for _ in range(20):
        for event in device.events:
            event.happened = True
        bench.drain()
    steps = bench.channel.steps
    assert steps[:192] == list(range(192)), "what is underway is safe"
    assert steps[-64:] == list(range(1216, 1280))
    assert len(steps) + bench.recorder.dropped_steps == 1280


def test_weights_on_the_device_are_brought_with_the_rest() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    weight = torch.tensor(0.5, device="cuda")
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2, weight=weight), ps.Term("l1", ps.l1)])
    bench = Bench()
    pipeline.register_observer(bench.recorder.feed())
    x = torch.ones(2, device="cuda", requires_grad=True)
    pipeline(x).loss.backward()
    bench.recorder.flush(10)
    assert bench.channel.weights == [[0.5, 1.0]]
