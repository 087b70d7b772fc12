"""What watching costs, counted: numbers that do not depend on the machine or its load."""

import gzip
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

import penaltyscope as ps
from benchmarks.operations import Operations
from benchmarks.terms import TERMS
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._recorder import Recorder
from penaltyscope_events import Event, RunIdentity, encode_request, encode_steps

STEPS = 64
CLOSED, OPAQUE = TERMS, [replace(t, penalty=lambda *x, p=t.penalty, **o: p(*x, **o)) for t in TERMS]
"""Evaluated in closed form, and by the split engine, which cannot know these functions."""


class Kept:
    """A channel that keeps what it is given."""

    lost_steps = 0

    def __init__(self) -> None:
        self.steps: list[Steps] = []

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        self.steps += steps

    def flush(self, timeout_seconds: float) -> bool:
        return True

    def close(self, timeout_seconds: float) -> None:
        pass


class Training:
    """Steps on random batches, so that no number comes twice."""

    def __init__(self, terms: Sequence[ps.Term]) -> None:
        torch.manual_seed(0)
        self.channel = Kept()
        self.recorder = Recorder(self.channel, incarnation="0123456789abcdef")
        self.pipeline = ps.Pipeline(terms)
        self.model = torch.nn.Linear(256, 128)

    def watch(self) -> None:
        self.feed = self.recorder.feed()
        self.pipeline.register_observer(self.feed)

    def step(self) -> ps.PipelineResult:
        student = self.model(torch.randn(64, 256)).log_softmax(-1)
        teacher = torch.randn(64, 128).log_softmax(-1)
        result: ps.PipelineResult = self.pipeline(
            student=student, teacher=teacher, base=student.mean()
        )
        result.loss.backward()
        return result


@pytest.mark.parametrize("terms", [CLOSED, OPAQUE])
def test_watching_adds_no_operation_to_a_step(terms: list[ps.Term]) -> None:
    training = Training(terms)
    training.step()
    alone, watched = Operations(), Operations()
    with alone:
        training.step()
    training.watch()
    with watched:
        training.step()
    assert watched.counts == alone.counts


@pytest.mark.parametrize(("terms", "counts"), [(CLOSED, range(1)), (OPAQUE, range(1, 6))])
def test_a_drain_reads_all_its_steps_with_a_handful_of_operations(
    terms: list[ps.Term], counts: range
) -> None:
    training = Training(terms)
    training.watch()
    for _ in range(STEPS):
        training.step()
    with Operations() as operations:
        training.recorder.flush(0)
    assert [len(part.block) for part in training.channel.steps] == [STEPS]
    assert operations.compute in counts, operations.counts


def test_a_recorded_step_keeps_two_objects_and_nothing_else() -> None:
    training = Training(CLOSED)
    training.watch()
    result = training.step()

    def blocks(call: Callable[[ps.Pipeline, ps.PipelineResult], None]) -> float:
        for _ in range(2 * STEPS):  # past what is made once
            call(training.pipeline, result)
        before = sys.getallocatedblocks()
        for _ in range(10 * STEPS):
            call(training.pipeline, result)
        return (sys.getallocatedblocks() - before) / (10 * STEPS)

    # The tuple and the number; now and then the ring's next block.
    assert blocks(training.feed.on_stop) < 2.2
    assert blocks(lambda *_: None) < 0.1, "the count sees what is kept, not what passes"


@pytest.mark.parametrize("terms", [CLOSED, OPAQUE])
def test_a_term_takes_at_most_20_bytes_a_step_on_the_wire(terms: list[ps.Term]) -> None:
    training = Training(terms)
    training.watch()
    # What travels in one request, when a step takes 8 ms.
    for _ in range(2 * STEPS):
        training.step()
    training.recorder.flush(0)
    identity = RunIdentity(run_id="my-run", instance_id="0123456789abcdef", host_name="node-1")
    scopes = [encode_steps(part.block, part.traces) for part in training.channel.steps]
    request = gzip.compress(encode_request(identity, scopes), 1, mtime=0)
    sent = len(request) / (2 * STEPS) / len(terms)
    assert sent <= 20, f"{sent:.1f} bytes"
