"""What holds on a GPU: ``python -m benchmarks.gpu``, a few minutes on an H100.

Whole watched training steps without one synchronisation, the bandwidth of the pipeline against that
of a copy, the cost of watching a transformer, and CUDA graphs with the recorder in them. On a
machine without a GPU the same code runs at small sizes, where only its counts mean something.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import penaltyscope as ps
from benchmarks.bandwidth import bandwidth
from benchmarks.effort import Shape
from benchmarks.measure import ratio_of_medians, shuffled
from benchmarks.operations import Operations
from benchmarks.receiver import receiver
from benchmarks.row import Row, table, write
from benchmarks.terms import TERMS
from benchmarks.transformer import ABOUT_10_MS, TINY, Sizes, Transformer
from penaltyscope_events import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large and how long."""

    device: torch.device
    sizes: Sizes
    tensors: tuple[Shape, ...]
    """Of float32."""
    steps: int
    blocks: int


def scale(device: str) -> Scale:
    """On a GPU tensors of 256 MiB and 1 GiB; elsewhere what shows that it runs."""
    if device == "cuda":
        tensors: tuple[Shape, ...] = ((1 << 16, 1024), (1 << 18, 1024))
        where = torch.device("cuda", torch.cuda.current_device())
        return Scale(device=where, sizes=ABOUT_10_MS, tensors=tensors, steps=100, blocks=12)
    return Scale(device=torch.device(device), sizes=TINY, tensors=((64, 32),), steps=3, blocks=2)


def synchronisations(at: Scale) -> list[Row]:
    """Counted in whole watched steps; on CUDA each would raise."""
    training, pipeline = Transformer(at.sizes, at.device), ps.Pipeline(TERMS)
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    refused, waits = 0, 0
    with ps.watch(pipeline, run="sync", exporter=kept) as run:
        training.step(pipeline)
        run.flush()
        kept.clear()
        with _refusing(at.device):
            for _ in range(at.steps):
                try:
                    with Operations() as counting:
                        training.step(pipeline)
                except RuntimeError as error:
                    if "synchronizing" not in str(error):
                        raise
                    refused += 1
                waits += counting.waits
        run.flush()
    return [
        Row("watched steps that synchronise", refused, "steps", bar=0),
        Row("reads and blocking copies in them", waits, "waits", bar=0),
        # Telemetry does not raise: where it would have to wait, it is missing.
        Row("part of them that is told", _told(kept) / at.steps, bar=1, at_least=True),
    ]


def watching(at: Scale) -> list[Row]:
    """A transformer's step with telemetry over the same step without."""
    training = Transformer(at.sizes, at.device)
    pipelines = {name: ps.Pipeline(TERMS, name=name) for name in ("off", "on")}
    pipelines["none"] = ps.Pipeline()
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    with receiver() as (endpoint, _), ps.watch(pipelines["on"], run="watch", endpoint=endpoint):
        for pipeline in pipelines.values():
            training.step(pipeline)
        for name in shuffled([*pipelines], at.blocks, 1):
            _wait(at.device)
            started = time.perf_counter()
            for _ in range(at.steps):
                training.step(pipelines[name])
            _wait(at.device)
            times[name].append((time.perf_counter() - started) / at.steps)
    return [
        Row(
            "transformer step, watched / not watched",
            ratio_of_medians(times, "on", "off"),
            bar=1.01,
        ),
        Row("transformer step, watched / no penalties", ratio_of_medians(times, "on", "none")),
        Row("transformer step, not watched", statistics.median(times["off"]) * 1e3, "ms"),
    ]


def graph(at: Scale) -> list[Row]:
    """The step, recorder and all, captured once and replayed: every replay is told."""
    training, pipeline = Transformer(at.sizes, at.device), ps.Pipeline(TERMS)
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    with ps.watch(pipeline, run="graph", exporter=kept) as run:
        for _ in range(3):
            training.step(pipeline)
        replay = _captured(lambda: training.step(pipeline), at.device)
        run.flush()
        kept.clear()
        for _ in range(at.steps):
            replay()
        _wait(at.device)
        run.flush()
    name = "replays of a CUDA graph" if at.device.type == "cuda" else "repeated steps"
    return [Row(f"part of {name} that is told", _told(kept) / at.steps, bar=1, at_least=True)]


def _told(kept: InMemoryLogRecordExporter) -> int:
    events = [record.log_record.event_name for record in kept.get_finished_logs()]
    return events.count(names.PIPELINE_STOP)


def _captured(step: Callable[[], object], device: torch.device) -> Callable[[], object]:
    if device.type != "cuda":
        return step
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    # The recorder's thread may use the device while this one captures.
    with torch.cuda.graph(captured, capture_error_mode="thread_local"):
        step()
    return captured.replay


@contextmanager
def _refusing(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cuda", "cpu"], default=default)
    parser.add_argument(
        "--json", type=Path, help="write the rows to this file, and the table beside it"
    )
    arguments = parser.parse_args()
    at = scale(arguments.device)
    name = torch.cuda.get_device_name(at.device) if at.device.type == "cuda" else "cpu"
    if at.device.type != "cuda":
        print("No GPU is used: sizes are small, and only what is counted means something.")
    rows = [
        *synchronisations(at),
        *bandwidth(at.tensors, at.blocks, at.device),
        *watching(at),
        *graph(at),
    ]
    print(table(rows))
    if arguments.json:
        write(arguments.json, rows, device=name)


if __name__ == "__main__":
    main()
