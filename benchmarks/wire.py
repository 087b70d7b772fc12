"""Our encoder beside OpenTelemetry's for the same records, and the bytes that travel.

Both make the same request from the same steps of a real training on random batches, timed in turn
in one run. ``python -m benchmarks.wire`` prints the rows.
"""

import gzip
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import penaltyscope as ps
from benchmarks.telemetry import TERMS, Measurement, Training
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._recorder import Recorder
from penaltyscope.telemetry._sdk import ExporterChannel
from penaltyscope_events import Event, RunIdentity, encode_request, encode_steps

STEPS = 64
IDENTITY = RunIdentity(run_id="my-run", instance_id="0123456789abcdef", host_name="node-1")


class Kept:
    """A channel that keeps what it is given."""

    lost_steps = 0

    def __init__(self) -> None:
        self.steps: list[Steps] = []

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Keeps the steps."""
        del events
        self.steps += steps

    def flush(self, timeout_seconds: float) -> bool:
        """Nothing is underway."""
        del timeout_seconds
        return True

    def close(self, timeout_seconds: float) -> None:
        """Nothing is open."""


def recorded(steps: int) -> list[Steps]:
    """Blocks of steps of a training on random batches."""
    training, pipeline, kept = Training(), ps.Pipeline(TERMS), Kept()
    recorder = Recorder(kept, incarnation="0123456789abcdef")
    pipeline.register_observer(recorder.feed())
    for _ in range(steps):
        training.x = torch.randn_like(training.x)
        training.teacher = torch.randn_like(training.teacher).log_softmax(-1)
        training.finish(pipeline(student=training.student(), teacher=training.teacher).loss)
    recorder.flush(10)
    return kept.steps


def request(steps: Sequence[Steps]) -> bytes:
    """The steps as one request, by our encoder."""
    return encode_request(IDENTITY, [encode_steps(part.block, part.traces) for part in steps])


class Encoders(NamedTuple):
    """Medians of encoding one step's records."""

    ours_us: float
    sdk_us: float


def encoders(steps: Sequence[Steps], rounds: int) -> Encoders:
    """Both encoders in turn; the SDK's starts from records that were made before."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    ExporterChannel(exporter, IDENTITY).send(steps, [])
    records = exporter.get_finished_logs()
    count = sum(len(part.block) for part in steps)
    both: list[Callable[[], object]] = [
        lambda: request(steps),
        lambda: encode_logs(records).SerializeToString(),
    ]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for run, own in zip(both, times, strict=True):
            started = time.thread_time()
            run()
            own.append((time.thread_time() - started) * 1e6 / count)
    return Encoders(*map(statistics.median, times))


def measure(rounds: int = 50) -> list[Measurement]:
    """The rows of the table."""
    steps = recorded(2 * STEPS)
    ours, sdk = encoders(steps[:1], rounds)
    sent = len(gzip.compress(request(steps), 1, mtime=0)) / (2 * STEPS * len(TERMS))
    nan = float("nan")
    return [
        Measurement("encoder, per step", ours, nan, "us"),
        Measurement("OpenTelemetry SDK's encoder, per step", sdk, nan, "us"),
        Measurement("the SDK's / ours", sdk / ours, nan, "times"),
        Measurement("sent per term and step, gzipped", sent, nan, "bytes"),
    ]


def main() -> None:
    """Measures and prints the rows."""
    torch.set_num_threads(1)
    for row in measure():
        print(f"{row.name:40}  {row.median:>8.2f}  {row.unit}")


if __name__ == "__main__":
    main()
