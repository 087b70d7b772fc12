"""What watching costs the training thread and the machine, in situ, side by side in one run.

The same call costs several times more after a training step, with cold caches, than in a hot loop;
so every row is timed right after a real step, modes are interleaved in shuffled blocks, and
medians are reported. Run it with ``make bench``; ``--json FILE`` also writes the rows.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from torch import Tensor, nn

import penaltyscope as ps
from penaltyscope_events import names

BLOCK = 50
TERMS = [
    ps.Term("l1", ps.l1, weight=1e-3, inputs=("student",)),
    ps.Term("l2", ps.l2, weight=1e-3, inputs=("student",)),
    ps.Term("kl", ps.kl_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("js", ps.js_divergence, weight=0.1, inputs=("student", "teacher")),
    ps.Term("entropy", ps.entropy, weight=0.1, inputs=("student",)),
    ps.Term("soft", ps.entropy, weight=0.1, inputs=("student",), options={"temperature": 2.0}),
    ps.Term("size", ps.output_magnitude_penalty, weight=0.1, inputs=("student",)),
    ps.Term("orthogonality", ps.orthogonality, weight=0.1, inputs=("student",)),
]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table."""

    name: str
    median: float
    p99: float
    unit: str


class Training:
    """A real step of about 10 ms on one core: three layers forward and backward."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 128)
        )
        self.x = torch.randn(64, 512)
        self.teacher = torch.randn(64, 128).log_softmax(-1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)

    def student(self) -> Tensor:
        """Log-probabilities ``[64, 128]``."""
        return torch.log_softmax(self.model(self.x), -1)

    def finish(self, loss: Tensor) -> None:
        """Backward pass and update."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@contextmanager
def service() -> Iterator[str]:
    """A service on a free port, so that batches are really sent and stored."""
    with tempfile.TemporaryDirectory() as data:
        command = [str(Path(sys.executable).with_name("penaltyscope")), "serve", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--data-dir", data], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.wait(10)


def record_in_situ(steps: int, endpoint: str) -> list[Measurement]:
    """Time of each way to record, right after the forward pass of a step."""
    training, pipeline = Training(), ps.Pipeline(TERMS)
    watched = ps.Pipeline(TERMS, name="watched")
    provider = LoggerProvider()
    provider.add_log_record_processor(
        BatchLogRecordProcessor(InMemoryLogRecordExporter())  # type: ignore[no-untyped-call]
    )
    logger = provider.get_logger("benchmark")
    with ps.watch(watched, run="benchmark", endpoint=endpoint):
        (feed,) = watched._observers

        def ours(result: ps.PipelineResult) -> None:
            feed.on_start(watched, 0)
            feed.on_stop(watched, result)

        def sdk(result: ps.PipelineResult) -> None:
            # What it takes without us: read the numbers, make a record, emit it.
            columns = result.values.tolist(), result.weights.tolist(), result.contributions.tolist()
            logger.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    severity_number=SeverityNumber.INFO,
                    event_name=names.PIPELINE_STOP,
                    attributes={
                        f"{name}.{i}": value
                        for name, column in zip("vwc", columns, strict=True)
                        for i, value in enumerate(column)
                    },
                )
            )

        modes: dict[str, Callable[[ps.PipelineResult], None]] = {
            "recorder call": ours,
            "OpenTelemetry SDK, one log record": sdk,
            "nothing (the clock itself)": lambda _: None,
        }
        times: dict[str, list[float]] = {name: [] for name in modes}
        order = [name for name in modes for _ in range(steps // BLOCK)]
        random.Random(0).shuffle(order)
        for name in order:
            for _ in range(BLOCK):
                result = pipeline(student=training.student(), teacher=training.teacher)
                started = time.perf_counter()
                modes[name](result)
                times[name].append((time.perf_counter() - started) * 1e6)
                training.finish(result.loss)
    provider.shutdown()
    return [_row(name, values, "us") for name, values in times.items()]


def background(steps: int, endpoint: str) -> list[Measurement]:
    """CPU time of everything that is not the training thread, per watched step."""
    training, pipeline = Training(), ps.Pipeline(TERMS, name="background")
    with ps.watch(pipeline, run="benchmark-background", endpoint=endpoint) as run:
        for _ in range(BLOCK):
            training.finish(pipeline(student=training.student(), teacher=training.teacher).loss)
        run.flush()
        whole, own = time.process_time(), time.thread_time()
        for _ in range(steps):
            training.finish(pipeline(student=training.student(), teacher=training.teacher).loss)
        run.flush()
        spent = (time.process_time() - whole) - (time.thread_time() - own)
    return [Measurement("background CPU per step", spent / steps * 1e6, float("nan"), "us")]


def step_time(steps: int, endpoint: str) -> list[Measurement]:
    """A whole step: plain sum of the same terms, split engine, split engine watched."""
    training, split = Training(), ps.Pipeline(TERMS)
    watched = ps.Pipeline(TERMS, name="step")

    def plain() -> None:
        inputs = {"student": training.student(), "teacher": training.teacher}
        total = torch.zeros(())
        for term in TERMS:
            value = term.penalty(*(inputs[name] for name in term.inputs), **term.options)
            total = total + term.weight * value  # type: ignore[operator]
        training.finish(total)

    def with_pipeline(pipeline: ps.Pipeline) -> None:
        training.finish(pipeline(student=training.student(), teacher=training.teacher).loss)

    modes: dict[str, Callable[[], None]] = {
        "step, plain sum of terms": plain,
        "step, split engine": lambda: with_pipeline(split),
        "step, split engine, watched": lambda: with_pipeline(watched),
    }
    times: dict[str, list[float]] = {name: [] for name in modes}
    order = [name for name in modes for _ in range(steps // BLOCK)]
    random.Random(1).shuffle(order)
    with ps.watch(watched, run="benchmark-step", endpoint=endpoint):
        for name in order:
            for _ in range(BLOCK):
                started = time.perf_counter()
                modes[name]()
                times[name].append((time.perf_counter() - started) * 1e3)
    return [_row(name, values, "ms") for name, values in times.items()]


def _row(name: str, values: list[float], unit: str) -> Measurement:
    return Measurement(
        name, statistics.median(values), statistics.quantiles(values, n=100)[98], unit
    )


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description="Cost of telemetry in the training job.")
    parser.add_argument("--steps", type=int, default=1000, help="steps for each mode")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with service() as endpoint:
        rows = [
            *record_in_situ(arguments.steps, endpoint),
            *background(arguments.steps, endpoint),
            *step_time(arguments.steps, endpoint),
        ]
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'median':>10}  {'p99':>10}")
    for row in rows:
        print(f"{row.name:{width}}  {row.median:>10.2f}  {row.p99:>10.2f}  {row.unit}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
