"""Replays of a captured evaluation: what a graph would launch again is run again by hand."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from penaltyscope.telemetry._capture import CapturedRing
from penaltyscope_events import TermFlag
from tests.lib.telemetry.test_cuda import DeviceBench, FakeDevice

if TYPE_CHECKING:
    import penaltyscope as ps


class Ring:
    """A ring whose rows are two numbers of the forward pass and one of the backward pass."""

    def __init__(self, capacity: int) -> None:
        self.ring = CapturedRing(capacity, 3, torch.device("cpu"))
        self.replays = 0

    def forward(self) -> Tensor:
        number = float(self.replays)
        self.replays += 1
        return self.ring.write([torch.tensor([number]), torch.tensor(10 * number)])

    def replay(self, count: int = 1) -> None:
        for _ in range(count):
            slot = self.forward()
            self.ring.settle(slot, torch.tensor([100.0 * (self.replays - 1)]))

    def look(self) -> tuple[int, list[list[float]]]:
        first, rows = self.ring.read(self.ring.snapshot().numpy())
        return first, rows.tolist()


def rows(*numbers: int) -> list[list[float]]:
    return [[number, 10 * number, 100 * number] for number in numbers]


def test_the_newest_replay_waits_for_a_newer_one_or_for_silence() -> None:
    ring = Ring(8)
    ring.replay(3)
    assert ring.look() == (0, rows(0, 1))
    assert ring.look() == (2, rows(2))
    assert ring.look() == (3, [])
    slot = ring.forward()
    assert ring.look() == (3, [])
    ring.ring.settle(slot, torch.tensor([300.0]))
    ring.replay()
    assert ring.look() == (3, rows(3))


def test_a_replay_without_backward_pass_has_zeros_and_nothing_of_the_slots_last_user() -> None:
    ring = Ring(2)
    ring.replay(2)
    ring.forward()
    ring.look()
    assert ring.look() == (2, [[2, 20, 0]])


def test_late_gradients_find_their_own_slot() -> None:
    ring = Ring(8)
    slots = [ring.forward(), ring.forward()]
    for number, slot in enumerate(slots):
        ring.ring.settle(slot, torch.tensor([100.0 * number]))
    ring.look()
    ring.look()
    assert ring.ring.read(ring.ring.snapshot().numpy())[0] == 2


def test_what_was_overwritten_is_skipped_and_so_is_the_slot_that_may_be() -> None:
    ring = Ring(4)
    ring.replay(10)
    assert ring.look() == (7, rows(7, 8))


def captured(device: FakeDevice, bench: DeviceBench) -> Callable[[float], None]:
    """Captures a step; what comes back does on the device what the graph would do again."""
    device.is_capturing = True
    bench.step()
    device.is_capturing = False
    ((ring, row),) = [(c.ring, c.row) for c in bench.recorder.captures.captured]
    tap = row[2].tap
    assert tap is not None
    assert tap.row is not None
    brought = tap.row

    def replay(value: float) -> None:
        forward = row[2].row.clone()
        forward[0] = value
        ring.settle(ring.write([forward]), brought)

    # Capturing launches nothing; here it did, backward pass included.
    assert ring._rows[0, -len(brought) :].tolist() == brought.tolist()
    ring._count.zero_()
    return replay


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


def complete(device: FakeDevice, bench: DeviceBench) -> None:
    for _ in range(3):
        bench.drain()
        for event in device.events:
            event.happened = True


def test_replays_are_recorded_with_steps_that_count_on(device: FakeDevice) -> None:
    bench = DeviceBench(device)
    bench.step()
    replay = captured(device, bench)
    for value in (1.0, 2.0, float("nan")):
        replay(value)
    complete(device, bench)
    complete(device, bench)
    assert bench.channel.steps == [0, 1, 2, 3]
    assert bench.channel.flags == [[0], [0], [0], [TermFlag.VALUE_NAN]]
    assert set(bench.channel.incarnations) == {"i", "i-0"}
    bench.step()
    complete(device, bench)
    assert bench.channel.seqs == [0, 0, 1, 2, 1], "an evaluation of its own goes on counting"
    assert bench.recorder.dropped_steps == 0


def test_a_capture_without_an_evaluation_before_is_told_and_harmless(
    device: FakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    bench = DeviceBench(device)
    device.is_capturing = True
    bench.step()
    device.is_capturing = False
    assert "replays are not recorded" in caplog.text
    bench.step()
    complete(device, bench)
    assert bench.channel.seqs == [0]


def test_nothing_is_looked_at_while_the_capture_goes_on(device: FakeDevice) -> None:
    bench = DeviceBench(device)
    bench.step()
    complete(device, bench)
    captured(device, bench)
    device.is_capturing = True
    launched = len(device.events)
    bench.drain()
    assert len(device.events) == launched


def test_a_device_that_fails_ends_nothing_but_telemetry(
    device: FakeDevice, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = DeviceBench(device)
    bench.step()
    captured(device, bench)

    def fail(stream: object) -> bool:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(device, "capturing", fail)
    bench.drain()
    assert "telemetry could not be collected" in caplog.text
    assert "illegal memory access" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_graph_is_captured_and_its_replays_are_seen() -> None:
    from tests.lib.telemetry.test_recorder import Bench

    bench = Bench()
    x = torch.ones(2, device="cuda", requires_grad=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            bench.pipeline(x).loss.backward()
    torch.cuda.current_stream().wait_stream(side)
    bench.recorder.flush(10)
    graph = torch.cuda.CUDAGraph()
    x.grad = None
    with torch.cuda.graph(graph):
        result: ps.PipelineResult = bench.pipeline(x)
        result.loss.backward()
    for value in (2.0, 3.0):
        with torch.no_grad():
            x.fill_(value)
        graph.replay()
    bench.recorder.flush(10)
    assert bench.channel.steps == [0, 1, 2, 3, 4]
    assert [row[0] for row in bench.channel.values] == [2, 2, 2, 8, 18]
