"""Metrics of a watched run: over HTTP with the stock exporter, and through a reader in memory."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)

import penaltyscope as ps
from penaltyscope.telemetry import Metrics
from penaltyscope_events import FINDINGS, TermFlag, names
from tests.lib.telemetry.kept import SOURCE, steps
from tests.lib.telemetry.receiver import Receiver, receiver

NAN = float("nan")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    yield (reader := InMemoryMetricReader())
    reader.shutdown()


def read(reader: InMemoryMetricReader) -> dict[str, dict[tuple[object, ...], object]]:
    """Data points by metric and by the values of their attributes but run and rank."""
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[object, ...], object]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = dict(point.attributes or {})
                    assert attributes.pop(names.RUN_ID) == "r"
                    assert attributes.pop(names.RANK) == 0
                    value = point.value if isinstance(point, NumberDataPoint) else point
                    found.setdefault(metric.name, {})[tuple(attributes.values())] = value
    return found


def test_numbers_are_the_last_finite_and_counts_are_complete(reader: InMemoryMetricReader) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    channel = Metrics(provider=provider).open(SOURCE)
    channel.send([steps(0, 1, value=1.0), steps(2, value=4.0)], [])
    bad = steps(3, 4, value=NAN, flags=TermFlag.VALUE_NAN)
    bad = replace(bad, made=replace(bad.block, base=np.array([np.inf, 0.5])))
    channel.send([bad], [])
    found = read(reader)
    assert found["penaltyscope.term.value"] == {("p", "a"): 4.0, ("p", "b"): 4.0}
    assert found["penaltyscope.term.weight"] == {("p", "a"): 0.5, ("p", "b"): 0.5}
    assert found["penaltyscope.term.contribution"][("p", "a")] == 2.0
    assert found["penaltyscope.term.gradient_norm"][("p", "a")] == 2.0
    assert found["penaltyscope.pipeline.base_loss"] == {("p",): 0.5}
    assert found["penaltyscope.pipeline.penalty"] == {("p",): 0.5}
    assert found["penaltyscope.pipeline.loss"] == {("p",): 1.0}
    assert found["penaltyscope.pipeline.gradient_norm"] == {("p",): 3.0}
    assert found["penaltyscope.pipeline.steps"] == {("p",): 5}
    counts = found["penaltyscope.nonfinite"]
    assert counts.pop(("p", "a", "value", "nan")) == 2
    assert counts.pop(("p", "b", "value", "nan")) == 2
    assert counts.pop(("p", "base", "value", "inf")) == 1
    assert set(counts.values()) == {0}
    assert len(counts) == 2 * len(FINDINGS) + 2 - 3


def test_before_the_first_step_every_counter_is_0(reader: InMemoryMetricReader) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    Metrics(provider=provider).open(SOURCE)
    found = read(reader)
    assert found["penaltyscope.nonfinite"][("p", "a", "gradient", "inf")] == 0
    assert found["penaltyscope.pipeline.steps"] == {("p",): 0}
    assert found["penaltyscope.recorder.dropped_steps"] == {(): 0}
    assert "penaltyscope.term.value" not in found


def test_norms_fall_into_decades_and_what_was_not_measured_into_none(
    reader: InMemoryMetricReader,
) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    channel = Metrics(provider=provider).open(SOURCE)
    part = steps(0, 1, 2, 3)
    norms = np.array([[1e-7, 1.0], [0.5, np.inf], [5e6, 2.0], [3.0, 4.0]])
    flags = np.zeros_like(part.block.flags)
    flags[3] = TermFlag.NORM_NOT_MEASURED
    channel.send([replace(part, made=replace(part.block, gradient_norm=norms, flags=flags))], [])
    found = read(reader)["penaltyscope.term.gradient_norm.distribution"]
    first, second = found[("p", "a")], found[("p", "b")]
    assert isinstance(first, HistogramDataPoint)
    assert isinstance(second, HistogramDataPoint)
    assert first.explicit_bounds == tuple(10.0**k for k in range(-6, 7))
    assert [i for i, count in enumerate(first.bucket_counts) if count] == [0, 6, 13]
    assert (second.count, second.sum) == (2, 3.0)


def test_a_second_watch_on_the_same_provider_is_seen_and_the_first_no_more(
    reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    first = Metrics(provider=provider).open(SOURCE)
    first.send([steps(0)], [])
    first.close(1)
    second = Metrics(provider=provider).open(
        replace(SOURCE, incarnation="j", pipelines={"q": ("a",)})
    )
    second.send([steps(0, 1, pipeline="q")], [])
    assert read(reader)["penaltyscope.pipeline.steps"] == {("q",): 2}
    assert not caplog.records


def plain(value: AnyValue) -> object:
    return getattr(value, str(value.WhichOneof("value")))


def exported(there: Receiver) -> list[dict[str, Metric]]:
    """Each export's metrics by name."""
    return [
        {metric.name: metric for scope in r.scope_metrics for metric in scope.metrics}
        for request in there.metrics
        for r in request.resource_metrics
    ]


def watched(there: Receiver, count: int) -> None:
    x = torch.ones(2, requires_grad=True)
    pipeline = ps.Pipeline([ps.Term("size", ps.l2), ps.Term("off", ps.l1, enabled=False)], name="p")
    with ps.watch(pipeline, run="r", endpoint=there.url, sinks=[Metrics()]) as run:
        there.wait_for_attempts(1)
        for _ in range(2):
            for _ in range(count):
                pipeline(x).loss.backward()
            assert run.flush()


@pytest.mark.parametrize(
    ("preference", "expected", "counts"),
    [
        ("cumulative", AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE, [0, 5, 10]),
        ("delta", AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA, [0, 5, 5]),
    ],
)
def test_a_stock_collector_gets_them_with_the_temporality_it_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    preference: str,
    expected: AggregationTemporality.ValueType,
    counts: list[int],
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    with receiver() as there:
        watched(there, 5)
    assert set(there.paths) == {"/v1/metrics"}
    resource = there.metrics[0].resource_metrics[0].resource
    attributes = {a.key: plain(a.value) for a in resource.attributes}
    assert (attributes[names.RUN_ID], attributes[names.RANK]) == ("r", 0)
    exports = exported(there)
    histograms = []
    for metrics, count in zip(exports, counts, strict=False):
        nonfinite = metrics["penaltyscope.nonfinite"].sum
        assert nonfinite.is_monotonic
        assert nonfinite.aggregation_temporality == expected
        assert {point.as_int for point in nonfinite.data_points} == {0}
        (point,) = metrics["penaltyscope.pipeline.steps"].sum.data_points
        assert point.as_int == count
        histograms.append(metrics.get("penaltyscope.term.gradient_norm.distribution"))
    assert histograms[0] is None, "the first export is that of zeros"
    assert histograms[2] is not None
    assert histograms[2].histogram.aggregation_temporality == expected
    (norms,) = histograms[2].histogram.data_points
    assert (norms.count, norms.bucket_counts[7]) == (counts[2], counts[2])
    assert {plain(a.value) for a in norms.attributes} == {"r", 0, "p", "size"}
    (value,) = exports[-1]["penaltyscope.term.value"].gauge.data_points
    assert value.as_double == 2.0


def test_a_global_provider_of_the_applications_is_used() -> None:
    source = """
    import torch, penaltyscope as ps
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
    run = ps.watch(pipeline, sinks=[ps.telemetry.Metrics()])
    pipeline(torch.ones(2, requires_grad=True)).loss.backward()
    assert run.flush()
    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    steps = [m for m in data.metrics if m.name == "penaltyscope.pipeline.steps"]
    assert steps[0].data.data_points[0].value == 1
    run.close()
    assert not metrics.get_meter_provider()._shutdown
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(source)]
    subprocess.run(command, check=True, timeout=60)


def test_a_forked_child_exports_nothing_of_ours(reader: InMemoryMetricReader) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    channel = Metrics(provider=provider).open(SOURCE)
    channel.send([steps(0)], [])
    channel._process += 1  # type: ignore[attr-defined]
    assert "penaltyscope.pipeline.steps" not in read(reader)


def test_an_interval_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="interval_seconds must be positive, got 0"):
        Metrics(interval_seconds=0).open(SOURCE)
    environment = {"OTEL_METRIC_EXPORT_INTERVAL": "soon"}
    with pytest.raises(ValueError, match=r"OTEL_METRIC_EXPORT_INTERVAL .* got 'soon'"):
        Metrics().open(replace(SOURCE, environment=environment))


@pytest.mark.parametrize("sink", [Metrics(), ps.telemetry.Spans(), ps.telemetry.Exporter(None)])  # type: ignore[arg-type]
def test_without_the_sdk_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, sink: ps.telemetry.Sink
) -> None:
    for module in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("_metrics_channel", "_spans_channel", "_sdk"):
        monkeypatch.delitem(sys.modules, f"penaltyscope.telemetry.{module}", raising=False)
    with pytest.raises(ImportError, match=r"needs penaltyscope\[sdk\]"):
        sink.open(SOURCE)


def test_without_distributions_there_is_no_histogram(reader: InMemoryMetricReader) -> None:
    provider = MeterProvider([reader], shutdown_on_exit=False)
    Metrics(provider=provider, distributions=False).open(SOURCE).send([steps(0)], [])
    found = read(reader)
    assert found["penaltyscope.pipeline.steps"] == {("p",): 1}
    assert not any("distribution" in name or "duration" in name for name in found)
