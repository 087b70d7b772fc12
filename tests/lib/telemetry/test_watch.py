"""A watched run over a real socket, or through the SDK's in-memory exporter."""

import logging
import math
import time

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from torch import Tensor

import penaltyscope as ps
from penaltyscope_events import TermFlag, names
from tests.lib.pipelines import squares
from tests.lib.telemetry.receiver import Answer, receiver

NAN = float("nan")


@pytest.fixture
def exporter() -> InMemoryLogRecordExporter:
    return InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]


def pipeline(name: str = "p") -> ps.Pipeline:
    return ps.Pipeline(
        [
            ps.Term("size", ps.l2, weight=0.5),
            ps.Term("sparsity", ps.l1, weight=lambda step: 0.0 if step == 0 else 2.0),
            ps.Term("off", ps.l1, enabled=False),
        ],
        name=name,
    )


def train(watched: ps.Pipeline, x: Tensor, *, base: Tensor | None = None) -> None:
    watched(x, base=base).loss.backward()


def of(records: InMemoryLogRecordExporter, event: str) -> list[ReadableLogRecord]:
    return [r for r in records.get_finished_logs() if r.log_record.event_name == event]


def attribute(record: ReadableLogRecord, name: str) -> object:
    assert record.log_record.attributes is not None
    return record.log_record.attributes.get(name)


def test_a_run_is_started_recorded_and_ended(exporter: InMemoryLogRecordExporter) -> None:
    x = torch.tensor([3.0, -4.0], requires_grad=True)
    watched = pipeline()
    tags = {"model": "tiny"}
    with ps.watch(watched, run="r", tags=tags, rank=2, world_size=4, attempt=1, exporter=exporter):
        train(watched, x, base=torch.tensor(1.5))
        train(watched, x)
    (start,) = of(exporter, names.RUN_START)
    resource = start.resource.attributes
    assert resource[names.RUN_ID] == "r"
    assert (resource[names.RANK], resource[names.WORLD_SIZE], resource[names.ATTEMPT]) == (2, 4, 1)
    assert resource[names.RUN_TAG_PREFIX + "model"] == "tiny"
    assert len(of(exporter, names.PIPELINE_START)) == 2
    first, second = of(exporter, names.PIPELINE_STOP)
    assert first.instrumentation_scope is not None
    assert first.instrumentation_scope.attributes == {names.TERM_NAMES: ("size", "sparsity", "off")}
    assert [attribute(r, names.SEQ) for r in (first, second)] == [0, 1]
    assert [attribute(r, names.STEP) for r in (first, second)] == [0, 1]
    assert [attribute(r, names.BASE) for r in (first, second)] == [1.5, None]
    assert attribute(first, names.TERM_WEIGHT) == (0.5, 0.0, 1.0)
    assert attribute(second, names.TOTAL) == 0.5 * 25 + 2 * 7
    assert str(attribute(second, names.TERM_VALUE)) == "(25.0, 7.0, nan)"
    assert attribute(second, names.TERM_CONTRIBUTION) == (12.5, 14.0, 0.0)
    norms = attribute(second, names.TERM_GRADIENT_NORM)
    assert isinstance(norms, tuple)
    assert norms[:2] == pytest.approx((10, 2**0.5))
    unmeasured, off = TermFlag.NORM_NOT_MEASURED, TermFlag.NORM_NOT_MEASURED | TermFlag.DISABLED
    assert attribute(first, names.TERM_FLAGS) == (0, unmeasured, off)
    assert attribute(second, names.TERM_FLAGS) == (0, 0, off)
    (end,) = of(exporter, names.RUN_END)
    assert attribute(end, names.STATUS) == "finished"
    assert attribute(end, names.DROPPED_STEPS) == 0
    overhead = attribute(end, names.OVERHEAD)
    assert isinstance(overhead, float)
    assert 0 < overhead < 1
    assert exporter._stopped


def test_the_coefficient_of_a_controller_shows_up_as_the_weight(
    exporter: InMemoryLogRecordExporter,
) -> None:
    controller = ps.schedules.AdaptiveKL(0.1, target=1.0)
    watched = ps.Pipeline([ps.Term("kl", ps.l2, weight=controller)])
    sent = []
    with ps.watch(watched, exporter=exporter):
        for _ in range(2):
            sent.append((controller.weight,))
            train(watched, torch.ones(2, requires_grad=True))
            controller.update(100.0)
    assert sent[0] < sent[1]
    assert [attribute(r, names.TERM_WEIGHT) for r in of(exporter, names.PIPELINE_STOP)] == sent


@pytest.mark.parametrize(
    ("element", "flags"),
    [
        (NAN, TermFlag.INPUT_NAN | TermFlag.VALUE_NAN | TermFlag.GRADIENT_NAN),
        (-float("inf"), TermFlag.INPUT_INF | TermFlag.VALUE_INF | TermFlag.GRADIENT_INF),
    ],
)
def test_what_is_not_finite_is_flagged_by_stage(
    exporter: InMemoryLogRecordExporter, element: float, flags: int
) -> None:
    watched = ps.Pipeline([ps.Term("l2", ps.l2)])
    with ps.watch(watched, exporter=exporter):
        train(watched, torch.tensor([1.0, element], requires_grad=True))
    (stop,) = of(exporter, names.PIPELINE_STOP)
    assert attribute(stop, names.TERM_FLAGS) == (flags,)
    assert stop.log_record.severity_number is not None
    assert stop.log_record.severity_number.value == 17


def test_a_log_probability_of_minus_infinity_is_no_finding(
    exporter: InMemoryLogRecordExporter,
) -> None:
    watched = ps.Pipeline(
        [ps.Term("entropy", ps.entropy), ps.Term("count", lambda x: (x > -1).sum() * 1.0)]
    )
    with ps.watch(watched, exporter=exporter):
        train(watched, torch.tensor([0.0, -float("inf")], requires_grad=True))
    (stop,) = of(exporter, names.PIPELINE_STOP)
    # To a function of the user's, which may not expect it, it is one.
    assert attribute(stop, names.TERM_FLAGS) == (0, TermFlag.INPUT_INF)


def test_options_of_one_call_tell_what_is_a_log_probability(
    exporter: InMemoryLogRecordExporter,
) -> None:
    x = torch.tensor([[0.0, -float("inf")]])
    watched = ps.Pipeline([ps.Term("same", ps.consistency, inputs=("x", "y"))])
    with ps.watch(watched, exporter=exporter):
        watched(x=x, y=x.clone(), options={"same": {"metric": "kl"}})
        watched(x=x, y=x.clone())
    stops = of(exporter, names.PIPELINE_STOP)
    flags = [attribute(stop, names.TERM_FLAGS) for stop in stops]
    assert TermFlag.INPUT_INF & flags[1][0]  # type: ignore[index]
    assert flags[0] is None or not TermFlag.INPUT_INF & flags[0][0]  # type: ignore[index]


def test_an_exception_in_a_penalty_is_reported_under_its_own_number(
    exporter: InMemoryLogRecordExporter,
) -> None:
    x = torch.ones(2, requires_grad=True)
    watched = pipeline()
    with ps.watch(watched, exporter=exporter):
        train(watched, x)
        with pytest.raises(TypeError, match="nonsense"):
            watched(x, options={"size": {"nonsense": 1}})
        train(watched, x)
    (exception,) = of(exporter, names.PIPELINE_EXCEPTION)
    assert attribute(exception, names.SEQ) == 1
    assert attribute(exception, names.EXCEPTION_TYPE) == "builtins.TypeError"
    assert "nonsense" in str(attribute(exception, names.EXCEPTION_STACKTRACE))
    assert [attribute(r, names.SEQ) for r in of(exporter, names.PIPELINE_STOP)] == [0, 2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("out of data"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(0), "finished"),
        (SystemExit(3), "failed"),
    ],
)
def test_how_a_run_ended_is_told(
    exporter: InMemoryLogRecordExporter, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), ps.watch(pipeline(), exporter=exporter):
        raise error
    (end,) = of(exporter, names.RUN_END)
    assert attribute(end, names.STATUS) == status
    if isinstance(error, ValueError):
        assert attribute(end, names.EXCEPTION_MESSAGE) == "out of data"


def test_steps_of_the_optimizer_are_the_steps(exporter: InMemoryLogRecordExporter) -> None:
    x = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    watched = pipeline()
    with ps.watch(watched, optimizer=optimizer, exporter=exporter):
        for _ in range(2):
            train(watched, x)
            train(watched, x)
            optimizer.step()
    assert [attribute(r, names.STEP) for r in of(exporter, names.PIPELINE_STOP)] == [0, 0, 1, 1]
    watched(x)
    assert watched.step == 3, "after the watch, calls count again"


def test_a_step_without_a_backward_pass_has_the_norms_that_need_none(
    exporter: InMemoryLogRecordExporter,
) -> None:
    watched = ps.Pipeline([ps.Term("l2", ps.l2), ps.Term("squares", squares)])
    with ps.watch(watched, exporter=exporter):
        watched(torch.ones(2, requires_grad=True))
    (stop,) = of(exporter, names.PIPELINE_STOP)
    flags = attribute(stop, names.TERM_FLAGS)
    norms = attribute(stop, names.TERM_GRADIENT_NORM)
    assert isinstance(norms, tuple)
    assert flags == (0, TermFlag.NORM_NOT_MEASURED)
    assert norms[0] == pytest.approx(8**0.5)
    assert math.isnan(norms[1])


def test_a_step_belongs_to_the_span_it_ran_in(exporter: InMemoryLogRecordExporter) -> None:
    context = trace.SpanContext(trace_id=7, span_id=9, is_remote=False)
    watched = pipeline()
    with ps.watch(watched, exporter=exporter), trace.use_span(trace.NonRecordingSpan(context)):
        train(watched, torch.ones(2, requires_grad=True))
    (stop,) = of(exporter, names.PIPELINE_STOP)
    assert (stop.log_record.trace_id, stop.log_record.span_id) == (7, 9)


def test_records_travel_over_http_with_the_headers_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.ones(2, requires_grad=True)
    with receiver() as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")
        watched = pipeline()
        with ps.watch(watched, run="r") as run:
            for _ in range(130):
                train(watched, x)
            assert run.flush()
            assert there.steps() == list(range(130))
    assert set(there.paths) == {"/v1/logs"}
    for headers in there.headers:
        assert headers["authorization"] == "Bearer x"
        assert headers["content-type"] == "application/x-protobuf"
        assert headers["content-encoding"] == "gzip"
    events = there.events()
    assert events[0] == names.RUN_START
    assert events[-1] == names.RUN_END


def test_a_receiver_under_pressure_gets_every_step_once_and_in_order() -> None:
    x = torch.ones(2, requires_grad=True)
    busy = [Answer(503, {"retry-after": "0"}), Answer(429), Answer(502), Answer(504)]
    with receiver(*busy) as there:
        watched = pipeline()
        with ps.watch(watched, endpoint=there.url) as run:
            for _ in range(10):
                train(watched, x)
            assert run.flush(20)
            assert run.dropped_steps == 0
        assert there.steps() == list(range(10))


def test_a_step_that_is_not_finite_is_sent_at_once() -> None:
    watched = pipeline()
    with receiver() as there, ps.watch(watched, endpoint=there.url, interval_seconds=3600):
        there.wait_for_attempts(1)
        train(watched, torch.ones(2, requires_grad=True))
        train(watched, torch.tensor([1.0, NAN], requires_grad=True))
        with there.changed:  # an hour, or 62 more steps, would be too long
            assert there.changed.wait_for(lambda: there.steps() == [0, 1], 20)


def test_a_refusal_is_logged_counted_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.ones(2, requires_grad=True)
    with receiver(Answer(), Answer(400, body=b"bad data")) as there:
        watched = pipeline()
        with ps.watch(watched, endpoint=there.url) as run:
            there.wait_for_attempts(1)
            train(watched, x)
            assert run.flush()
            assert run.dropped_steps == 1
            train(watched, x)
        assert there.steps() == [1]
    assert "refused 1 steps with HTTP 400: bad data" in caplog.text


def test_a_partial_success_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer = Answer(body=b"\x0a\x0c\x08\x01\x12\x08no names")
    with receiver(answer) as there, ps.watch(pipeline(), endpoint=there.url) as run:
        there.wait_for_attempts(1)
        assert run.flush()
    assert "no names" in caplog.text


def test_with_nobody_there_training_goes_on_and_closing_takes_two_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.ones(2, requires_grad=True)
    watched = pipeline()
    with caplog.at_level(logging.WARNING, "penaltyscope"):
        run = ps.watch(watched, endpoint="http://127.0.0.1:9")
        for _ in range(200):
            train(watched, x)
        started = time.monotonic()
        run.close()
        # A bound that the interface promises, with a second of grace for a loaded machine.
        assert time.monotonic() - started < 3
    assert len([r for r in caplog.records if "will retry" in r.message]) == 1
    assert "200 steps were not delivered" in caplog.text


def test_closing_twice_ends_once(exporter: InMemoryLogRecordExporter) -> None:
    run = ps.watch(pipeline(), exporter=exporter)
    run.close()
    run.close()
    assert len(of(exporter, names.RUN_END)) == 1


def test_an_exporter_that_fails_costs_telemetry_and_nothing_else() -> None:
    class Failing(InMemoryLogRecordExporter):
        def export(self, batch: object) -> object:  # type: ignore[override]
            raise OSError("disk full")

    watched = pipeline()
    failing = Failing()  # type: ignore[no-untyped-call]
    with ps.watch(watched, exporter=failing) as run:
        train(watched, torch.ones(2, requires_grad=True))
        run.flush()
        assert run.dropped_steps == 1


def test_a_disabled_sdk_watches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    watched = pipeline()
    with receiver() as there, ps.watch(watched, endpoint=there.url) as run:
        train(watched, torch.ones(2, requires_grad=True))
        assert run.flush()
    assert there.headers == []


def test_torchrun_names_the_run(
    monkeypatch: pytest.MonkeyPatch, exporter: InMemoryLogRecordExporter
) -> None:
    variables = {
        "TORCHELASTIC_RUN_ID": "job-7",
        "RANK": "3",
        "WORLD_SIZE": "8",
        "TORCHELASTIC_RESTART_COUNT": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with ps.watch(pipeline(), exporter=exporter) as run:
        assert run.run == "job-7"
    resource = exporter.get_finished_logs()[0].resource.attributes
    assert [resource[n] for n in (names.RANK, names.WORLD_SIZE, names.ATTEMPT)] == [3, 8, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": " "}, "run must be a non-empty string"),
        ({"rank": -1}, "rank must not be negative, got -1"),
        ({"endpoint": "here"}, "endpoint must be an http:// or https:// URL"),
        ({"interval_seconds": 0}, "interval_seconds must be positive, got 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ps.watch(pipeline(), **arguments)  # type: ignore[arg-type]


def test_pipelines_of_one_run_have_different_names() -> None:
    with pytest.raises(ValueError, match=r"different names, at least one, got \['p', 'p'\]"):
        ps.watch(pipeline(), pipeline())
    with pytest.raises(TypeError, match="must be Pipeline objects, got str"):
        ps.watch("p")  # type: ignore[arg-type]
