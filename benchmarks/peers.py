"""What others take in the training thread to record the values of the same eight terms.

Their own packages, in one run of Lightning's trainer: every way of recording takes its turn, timed
after the forward pass of a real training step. Ours records values, weights, contributions and
gradient norms; the others are given one number per term, and only the call is held against them.
"""

import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lightning
import torch
import wandb
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import shuffled
from benchmarks.recorder import recording
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import Training, service
from penaltyscope_events import names

Record = Callable[[ps.PipelineResult], None]
OURS, CLOCK = "ours", "clock"


def rows(effort: Effort) -> list[Row]:
    """Each peer's time, and as a multiple of ours."""
    with ExitStack() as opened, tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        ways: dict[str, Record] = {CLOCK: lambda _: None}
        ways[OURS] = opened.enter_context(_ours())
        ways["W&B offline"] = opened.enter_context(_wandb(here))
        ways["TensorBoard"] = opened.enter_context(_tensorboard(here))
        ways["OpenTelemetry SDK, gauges and histograms"] = opened.enter_context(_instruments())
        ways["OpenTelemetry SDK, one log record"] = opened.enter_context(_log_record())
        times = _train(ways, effort, here)
    clock = statistics.median(times.pop(CLOCK))
    medians = {name: statistics.median(own) - clock for name, own in times.items()}
    ours = medians.pop(OURS)
    return [
        Row("recorder call in Lightning's loop", ours * 1e6, "us"),
        *(Row(f"{name}, eight terms", own * 1e6, "us") for name, own in medians.items()),
        *(Row(f"{name} / recorder call", own / ours) for name, own in medians.items()),
    ]


class Module(lightning.LightningModule):
    """Trains, and records in the way whose turn it is."""

    def __init__(self, ways: Mapping[str, Record], order: list[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._training, self._pipeline = Training(), ps.Pipeline(TERMS)
        self._ways = {**ways, "Lightning self.log": self._log_terms}
        self._order = order
        self.times: dict[str, list[float]] = {name: [] for name in self._ways}

    def training_step(self, _: Tensor, batch_idx: int) -> None:
        """One step of the perceptron of the other tables."""
        name = self._order[batch_idx]
        result = self._training.forward(self._pipeline)
        started = time.perf_counter()
        self._ways[name](result)
        self.times[name].append(time.perf_counter() - started)
        self._training.finish(result.loss)

    def configure_optimizers(self) -> None:
        """None of Lightning's: the training brings its own."""

    def _log_terms(self, result: ps.PipelineResult) -> None:
        for name, value in zip(result.statistics.layout.terms, result.values, strict=True):
            self.log(name, value)


def _train(ways: Mapping[str, Record], effort: Effort, folder: Path) -> dict[str, list[float]]:
    order = shuffled([*ways, "Lightning self.log"], effort.blocks, effort.block_steps)
    module = Module(ways, order)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on the data loader of a benchmark
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=-1,
            max_epochs=1,
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, DataLoader(TensorDataset(torch.zeros(len(order)))))
    return module.times


@contextmanager
def _ours() -> Iterator[Record]:
    watched = ps.Pipeline(TERMS, name="watched")
    with service() as endpoint, ps.watch(watched, run="benchmark", endpoint=endpoint):
        yield recording(watched)


@contextmanager
def _wandb(folder: Path) -> Iterator[Record]:
    os.environ.update(WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
    with wandb.init(mode="offline", dir=folder, project="benchmark") as run:
        yield lambda result: run.log(_values(result))


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Record]:
    with SummaryWriter(str(folder)) as writer:

        def record(result: ps.PipelineResult) -> None:
            for name, value in _values(result).items():
                writer.add_scalar(name, value, result.statistics.step)

        yield record


@contextmanager
def _instruments() -> Iterator[Record]:
    provider = MeterProvider(metric_readers=[InMemoryMetricReader()])
    meter = provider.get_meter("benchmark")
    gauge, histogram = meter.create_gauge("value"), meter.create_histogram("distribution")
    attributes = {term.name: {"term": term.name} for term in TERMS}

    def record(result: ps.PipelineResult) -> None:
        for name, value in _values(result).items():
            gauge.set(value, attributes[name])
            histogram.record(value, attributes[name])

    yield record
    provider.shutdown()


@contextmanager
def _log_record() -> Iterator[Record]:
    provider = LoggerProvider()
    provider.add_log_record_processor(
        BatchLogRecordProcessor(InMemoryLogRecordExporter())  # type: ignore[no-untyped-call]
    )
    logger = provider.get_logger("benchmark")

    def record(result: ps.PipelineResult) -> None:
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                event_name=names.PIPELINE_STOP,
                attributes=_values(result),
            )
        )

    yield record
    provider.shutdown()


def _values(result: ps.PipelineResult) -> dict[str, float]:
    return dict(zip(result.statistics.layout.terms, result.values.tolist(), strict=True))
