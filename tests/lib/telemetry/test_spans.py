"""Spans of a watched run: over HTTP with the stock exporter, and through one in memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import penaltyscope as ps
from penaltyscope.telemetry import Spans
from penaltyscope_events import TermFlag, names
from tests.lib.telemetry.kept import SOURCE, steps
from tests.lib.telemetry.receiver import receiver

SECOND = 10**9


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def of_steps(spans: Sequence[ReadableSpan]) -> list[object]:
    return [span.attributes[names.STEP] for span in spans if span.attributes]


def test_a_span_has_the_times_and_numbers_of_its_evaluation(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    channel = Spans(sample_ratio=1.0, provider=provider).open(SOURCE)
    channel.send([steps(7)], [])
    (span,) = exporter.get_finished_spans()
    assert span.name == "pipeline p"
    assert (span.start_time, span.end_time) == (7 * SECOND - 10**6, 7 * SECOND)
    assert span.parent is None
    assert span.status.status_code is trace.StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes[names.RUN_ID] == "r"
    assert attributes[names.TERM_NAMES] == ("a", "b")
    assert attributes[names.TERM_GRADIENT_NORM] == (2.0, 2.0)
    assert attributes[names.TOTAL] == 0.5


def test_a_sample_is_drawn_and_the_same_one_for_the_same_seed(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    drawn = []
    for _ in range(2):
        channel = Spans(sample_ratio=0.1, provider=provider, seed=1).open(SOURCE)
        channel.send([steps(*range(1000))], [])
        drawn.append(of_steps(exporter.get_finished_spans()))
        exporter.clear()
    assert drawn[0] == drawn[1]
    assert 60 < len(drawn[0]) < 140  # four standard deviations
    Spans(sample_ratio=0.0, provider=provider).open(SOURCE).send([steps(*range(1000))], [])
    assert exporter.get_finished_spans() == ()


def test_the_first_evaluation_that_is_not_finite_has_a_span_in_any_case(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    channel = Spans(sample_ratio=0.0, provider=provider).open(SOURCE)
    bad = steps(1, 2, value=np.nan, flags=TermFlag.VALUE_NAN)
    for part in (steps(0), bad, bad, steps(3), bad):
        channel.send([part], [])
    spans = exporter.get_finished_spans()
    assert of_steps(spans) == [1, 1]
    assert {span.status.status_code for span in spans} == {trace.StatusCode.ERROR}


@pytest.mark.parametrize("sampled", [True, False])
def test_a_span_is_a_child_of_the_one_it_ran_in_if_that_is_kept(
    exporter: InMemorySpanExporter, provider: TracerProvider, *, sampled: bool
) -> None:
    context = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(int(sampled)))
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2)])
    sinks = [Spans(sample_ratio=1.0, provider=provider)]
    with ps.watch(pipeline, sinks=sinks):
        with trace.use_span(trace.NonRecordingSpan(context)):
            pipeline(torch.ones(2, requires_grad=True)).loss.backward()
        pipeline(torch.ones(2, requires_grad=True)).loss.backward()
    spans = exporter.get_finished_spans()
    assert of_steps(spans) == ([0, 1] if sampled else [1])
    assert spans[-1].parent is None
    if sampled:
        assert spans[0].parent is not None
        assert (spans[0].parent.trace_id, spans[0].parent.span_id) == (7, 9)
        assert spans[0].context.trace_id == 7


def test_a_stock_collector_gets_them_beside_the_events() -> None:
    context = trace.SpanContext(7, 9, is_remote=False, trace_flags=trace.TraceFlags(1))
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2)])
    sinks = [ps.telemetry.OTLP(), Spans(sample_ratio=1.0)]
    with (
        receiver() as there,
        ps.watch(pipeline, run="r", endpoint=there.url, sinks=sinks) as run,
    ):
        with trace.use_span(trace.NonRecordingSpan(context)):
            for _ in range(3):
                pipeline(torch.ones(2, requires_grad=True)).loss.backward()
        assert run.flush()
        spans = [
            span
            for request in there.traces
            for scope in request.resource_spans[0].scope_spans
            for span in scope.spans
        ]
        assert len(spans) == 3
        assert there.steps() == [0, 1, 2]
        (record,) = [
            record
            for request in there.requests
            for scope in request.resource_logs[0].scope_logs
            for record in scope.log_records
            if record.event_name == names.PIPELINE_STOP
        ][:1]
        assert {span.trace_id for span in spans} == {record.trace_id}
        assert {span.parent_span_id for span in spans} == {record.span_id}
        resource = there.traces[0].resource_spans[0].resource
        assert {a.key: a.value.string_value for a in resource.attributes}[names.RUN_ID] == "r"
    assert set(there.paths) == {"/v1/logs", "/v1/traces"}


def test_with_nobody_there_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = ps.Pipeline([ps.Term("l2", ps.l2)])
    sinks = [Spans(sample_ratio=1.0)]
    with ps.watch(pipeline, endpoint="http://127.0.0.1:9", sinks=sinks, timeout_seconds=0.2):
        for _ in range(3):
            pipeline(torch.ones(2, requires_grad=True)).loss.backward()
    assert pipeline.step == 3
    assert caplog.records


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_that_makes_no_sense_is_named(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"sample_ratio must be from 0 to 1, got {ratio}"):
        Spans(sample_ratio=ratio).open(replace(SOURCE))
