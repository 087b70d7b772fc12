"""The way out: the time to write a batch in OTLP's bytes, and how many bytes there are."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import interleaved, ratio
from benchmarks.receiver import receiver
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import Training
from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._sdk import ExporterChannel
from penaltyscope_events import RunIdentity, StepBlock, encode_request, encode_steps

IDENTITY = RunIdentity(run_id="benchmark", instance_id="1", host_name="here")
BATCH_STEPS = 64


def rows(effort: Effort) -> list[Row]:
    """For batches of 64 steps of eight terms."""
    batch = block(BATCH_STEPS, len(TERMS))
    encoders = {"ours": encoder(batch), "sdk": sdk_encoder(batch), "records": sdk_way(batch)}
    times = interleaved(encoders, effort.rounds)
    return [
        Row(
            "OpenTelemetry SDK's encoder / ours", ratio(times, "sdk", "ours"), bar=10, at_least=True
        ),
        Row("the same with making its records / ours", ratio(times, "records", "ours")),
        Row(
            "encoding per step of eight terms",
            statistics.median(times["ours"]) / BATCH_STEPS * 1e6,
            "us",
        ),
        Row("bytes per term-sample, gzipped", bytes_per_sample(effort.steps), "bytes", bar=20.0),
    ]


def block(steps: int, terms: int) -> StepBlock:
    """Numbers of a run, as they are after training in float32."""
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return random.random(shape, np.float32).astype(np.float64)

    return StepBlock(
        pipeline="pipeline",
        incarnation="0123456789abcdef",
        terms=tuple(f"term {t}" for t in range(terms)),
        step=np.arange(steps),
        seq=np.arange(steps),
        stop_ns=np.arange(steps) * 10_000_000 + 1_700_000_000_000_000_000,
        duration=numbers(steps),
        base=numbers(steps),
        has_base=np.full(steps, fill_value=True),
        total=numbers(steps),
        total_gradient_norm=numbers(steps),
        value=numbers(steps, terms),
        weight=np.full((steps, terms), 0.1),
        contribution=numbers(steps, terms),
        gradient_norm=numbers(steps, terms),
        flags=np.zeros((steps, terms), np.int32),
    )


def encoder(batch: StepBlock) -> Callable[[], bytes]:
    """From columns to a request."""
    return lambda: encode_request(IDENTITY, [encode_steps(batch)])


def sdk_encoder(batch: StepBlock) -> Callable[[], bytes]:
    """From the SDK's records, which are there already, to a request."""
    records = sdk_records(batch)
    return lambda: encode_logs(records).SerializeToString()


def sdk_way(batch: StepBlock) -> Callable[[], bytes]:
    """From columns to the SDK's records, and from them to a request."""
    return lambda: encode_logs(sdk_records(batch)).SerializeToString()


def sdk_records(batch: StepBlock) -> Sequence[ReadableLogRecord]:
    """What the SDK would be asked to encode."""
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    ExporterChannel(kept, IDENTITY).send([Steps(batch, (None,) * len(batch))], [])
    return kept.get_finished_logs()


def bytes_per_sample(steps: int) -> float:
    """Of a real run, as they arrive; a sample is all that is told of one term at one step."""
    training, pipeline = Training(), ps.Pipeline(TERMS)
    with receiver() as (endpoint, weighed):
        with ps.watch(pipeline, run="bytes", endpoint=endpoint):
            for _ in range(steps):
                training.step(pipeline)
        return weighed() / (steps * len(TERMS))
