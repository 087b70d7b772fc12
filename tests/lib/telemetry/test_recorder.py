"""The ring and its patience, without threads or sockets: the clock and the channel are ours."""

from collections.abc import Callable, Sequence

import pytest
import torch

import penaltyscope as ps
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._recorder import Recorder
from penaltyscope.telemetry._transfer import Transfer
from penaltyscope_events import Event, TermFlag, names
from tests.lib.pipelines import squares

SECOND = 1_000_000_000
NAN = float("nan")


class Kept:
    """A channel that keeps what it is given."""

    lost_steps = 0

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.flags: list[list[int]] = []
        self.weights: list[list[float]] = []
        self.values: list[list[float]] = []
        self.seqs: list[int] = []
        self.incarnations: list[str] = []
        self.events: list[Event] = []
        self.sizes: list[int] = []

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        for part in steps:
            self.steps += part.block.step.tolist()
            self.flags += part.block.flags.tolist()
            self.weights += part.block.weight.tolist()
            self.values += part.block.value.tolist()
            self.seqs += part.block.seq.tolist()
            self.incarnations.append(part.block.incarnation)
            self.sizes.append(len(part.block))
        self.events += events

    def flush(self, timeout_seconds: float) -> bool:
        return True

    def close(self, timeout_seconds: float) -> None:
        pass


class Bench:
    """A recorder whose thread never starts: each drain is ours."""

    def __init__(
        self,
        *,
        capacity: int = 8192,
        make_transfer: Callable[[torch.device], Transfer] | None = None,
    ) -> None:
        self.now = 0
        self.channel = Kept()
        self.recorder = Recorder(
            self.channel,
            incarnation="i",
            capacity=capacity,
            time_ns=lambda: self.now,
            make_transfer=make_transfer,
        )
        # Norms of a user's own penalty come with the backward pass.
        self.pipeline = ps.Pipeline([ps.Term("squares", squares)])
        self.pipeline.register_observer(self.recorder.feed())

    def forward(self) -> ps.PipelineResult:
        result: ps.PipelineResult = self.pipeline(torch.ones(2, requires_grad=True))
        self.now = max(self.now, result.statistics.stop_ns)
        return result

    def step(self) -> None:
        self.forward().loss.backward()

    def drain(self, *, after_seconds: float = 0.0) -> list[int]:
        self.now += int(after_seconds * SECOND)
        self.recorder.flush(0)
        return self.channel.steps


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.step()  # the first backward pass has taught the recorder how long one takes
    assert bench.drain() == [0]
    return bench


def test_a_step_waits_for_its_backward_pass_and_those_behind_it_wait_too(bench: Bench) -> None:
    late = bench.forward()
    bench.step()
    assert bench.drain() == [0]
    late.loss.backward()
    assert bench.drain() == [0, 1, 2]
    assert bench.channel.flags == [[0], [0], [0]]


def test_a_step_without_backward_pass_goes_when_patience_ends(bench: Bench) -> None:
    bench.forward()
    assert bench.drain(after_seconds=1) == [0]
    assert bench.drain(after_seconds=2) == [0, 1]
    assert bench.channel.flags[-1] == [TermFlag.NORM_NOT_MEASURED]


def test_the_first_backward_pass_may_take_a_minute() -> None:
    bench = Bench()
    bench.forward()
    assert bench.drain(after_seconds=50) == []
    assert bench.drain(after_seconds=20) == [0]


def test_patience_grows_with_the_longest_backward_pass_seen(bench: Bench) -> None:
    slow = bench.forward()
    slow.loss.backward()
    assert slow.statistics.tap is not None
    slow.statistics.tap.settled_ns += 5 * SECOND
    assert bench.drain() == [0, 1]
    bench.forward()
    assert bench.drain(after_seconds=40) == [0, 1]
    assert bench.drain(after_seconds=20) == [0, 1, 2]


def test_a_full_ring_drops_the_oldest_and_counts_it() -> None:
    bench = Bench(capacity=4)
    for _ in range(10):
        bench.step()
    assert bench.recorder.dropped_steps == 6
    assert bench.drain() == [6, 7, 8, 9]


def test_batches_hold_at_most_256_steps(bench: Bench) -> None:
    for _ in range(514):
        bench.step()
    bench.drain()
    assert bench.channel.sizes == [1, 256, 256, 2]


def test_a_pipeline_that_changes_makes_a_new_block_for_each_form(bench: Bench) -> None:
    bench.step()
    bench.pipeline.add(ps.Term("l1", ps.l1))
    bench.step()
    bench.pipeline.set_enabled("l1", False)
    bench.step()
    assert bench.drain() == [0, 1, 2, 3]
    off = TermFlag.DISABLED | TermFlag.NORM_NOT_MEASURED
    assert bench.channel.flags == [[0], [0], [0, 0], [0, off]]


def test_a_scale_of_zero_measures_nothing(bench: Bench) -> None:
    (bench.forward().loss * 0).backward()
    bench.drain()
    assert bench.channel.flags[-1] == [TermFlag.NORM_NOT_MEASURED]


def test_what_cannot_be_encoded_is_counted_and_the_rest_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    result = bench.forward()
    object.__setattr__(result.statistics, "numbers", None)
    result.loss.backward()
    bench.drain()
    bench.step()
    assert bench.drain() == [0, 2]
    assert bench.recorder.dropped_steps == 1
    assert "1 steps are lost" in caplog.text


def test_health_tells_of_drops_and_of_the_recorders_own_cost() -> None:
    bench = Bench(capacity=1)
    bench.step()
    bench.step()
    bench.recorder._emit(names.RUN_HEARTBEAT, bench.recorder._health())
    bench.drain()
    (heartbeat,) = bench.channel.events
    assert heartbeat.attributes[names.DROPPED_STEPS] == 1
    overhead = heartbeat.attributes[names.OVERHEAD]
    assert isinstance(overhead, float)
    assert overhead > 0


@pytest.mark.parametrize(
    ("scale", "element", "flags"),
    [
        (65536.0, 1.0, TermFlag.NORM_NOT_MEASURED | TermFlag.GRADIENT_OVERFLOW),
        (1.0, 1.0, 0),
        (65536.0, NAN, TermFlag.INPUT_NAN | TermFlag.VALUE_NAN),
    ],
)
def test_an_overflow_under_a_loss_scale_is_told_from_a_finding(
    scale: float, element: float, flags: int
) -> None:
    bench = Bench()
    bench.pipeline = ps.Pipeline([ps.Term("steep", lambda x: x.sum() * 1e36)])
    bench.pipeline.register_observer(bench.recorder.feed())
    x = torch.tensor([element, 1.0], requires_grad=True)
    (bench.pipeline(x).loss * scale).backward()
    bench.drain()
    (got,) = bench.channel.flags
    assert got[0] & ~TermFlag.GRADIENT_INF == flags
    assert bool(got[0] & TermFlag.GRADIENT_INF) == (element != element)


def test_a_gradient_that_stays_infinite_is_a_finding_once_the_scale_is_small() -> None:
    bench = Bench()
    bench.pipeline = ps.Pipeline([ps.Term("root", lambda x: x.sqrt().sum())])
    bench.pipeline.register_observer(bench.recorder.feed())
    scale = 65536.0
    while not bench.channel.flags or bench.channel.flags[-1] != [TermFlag.GRADIENT_INF]:
        x = torch.zeros(2, requires_grad=True)
        (bench.pipeline(x).loss * scale).backward()
        bench.drain()
        scale /= 2
    assert len(bench.channel.flags) == 10


def test_to_ask_for_a_drain_again_is_to_ask_once() -> None:
    recorder = Recorder(Kept(), incarnation="i")
    for _ in range(3):
        recorder.wake()
    assert recorder._asleep.acquire(timeout=0)
    assert not recorder._asleep.acquire(timeout=0)
