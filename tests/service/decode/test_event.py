import pytest

from penaltyscope_events import AttributeValue, Event, RunIdentity, encode_events, encode_request
from penaltyscope_service.decode import ContentType, Reason, decode_logs
from tests.service.decode.messages import RESOURCE, TIME_NS, Attributes, decode, record

BOTH = pytest.mark.parametrize("encoding", ["application/x-protobuf", "application/json"])
EXCEPTION: dict[str, AttributeValue] = {
    "penaltyscope.pipeline": "distillation",
    "penaltyscope.incarnation": "first",
    "penaltyscope.step": 3,
    "penaltyscope.seq": 3,
    "exception.type": "ValueError",
    "exception.message": "",
}
END: dict[str, AttributeValue] = {"penaltyscope.status": "finished"}


def test_events_come_out_as_they_were_encoded() -> None:
    events = [
        Event(name="penaltyscope.run.start", time_ns=1),
        Event(
            name="penaltyscope.run.heartbeat",
            time_ns=2,
            attributes={
                "penaltyscope.recorder.dropped_steps": 4,
                "penaltyscope.recorder.overhead": 0.5,
            },
        ),
        Event(name="penaltyscope.pipeline.exception", time_ns=3, attributes=EXCEPTION, error=True),
        Event(name="penaltyscope.run.end", time_ns=4, attributes=END),
    ]
    identity = RunIdentity(
        run_id="resnet-kd-7",
        rank=1,
        world_size=2,
        attempt=3,
        service_name="trainer",
        instance_id="i-1",
        host_name="gpu-4",
        tags={"team": "vision", "größe": "XL"},
    )

    decoded = decode_logs(
        encode_request(identity, [encode_events(events)]), "application/x-protobuf"
    )

    (batch,) = decoded.batches
    assert batch.identity == identity
    assert batch.events == tuple(events)
    assert batch.steps == ()
    assert decoded.received == {
        "run.start": 1,
        "run.heartbeat": 1,
        "pipeline.exception": 1,
        "run.end": 1,
    }


@BOTH
def test_arrays_of_one_kind_reach_the_event_and_others_are_left_out(encoding: ContentType) -> None:
    attributes: Attributes = {
        "names": ["a", "b"],
        "counts": [1, 2],
        "values": [1.0, 2.0],
        "mixed": ["a", 1],
        "flag": True,
    }

    (batch,) = decode(encoding, record("penaltyscope.incident", attributes)).batches

    assert batch.events[0].attributes == {
        "names": ("a", "b"),
        "counts": (1, 2),
        "values": (1.0, 2.0),
        "flag": True,
    }


@BOTH
@pytest.mark.parametrize(("severity", "error"), [(0, False), (9, False), (17, True), (21, True)])
def test_severity_error_and_worse_is_an_error(
    encoding: ContentType, severity: int, error: bool
) -> None:
    (batch,) = decode(
        encoding, record("penaltyscope.incident", {}, severity_number=severity)
    ).batches

    assert batch.events[0].error is error


@BOTH
def test_tags_of_other_scalar_types_are_text(encoding: ContentType) -> None:
    resource = {**RESOURCE, "penaltyscope.run.tag.seed": 3, "penaltyscope.run.tag.lr": 0.5}

    (batch,) = decode(encoding, record("penaltyscope.run.start", {}), resource=resource).batches

    assert batch.identity.tags == {"seed": "3", "lr": "0.5"}


@BOTH
def test_foreign_and_future_records_are_counted_and_nothing_else(encoding: ContentType) -> None:
    foreign = record("", {"message": "hello"})
    future = record("penaltyscope.pipeline.checkpoint", {"penaltyscope.step": "not an int"})

    decoded = decode(encoding, foreign, future, resource={})

    assert decoded.received == {"other": 2}
    assert decoded.refused == {}
    assert decoded.batches == ()


CASES: list[tuple[str, Attributes, str, object, Reason, str]] = [
    ("run.end", END, "penaltyscope.status", "dead", "invalid_value", "got 'dead'."),
    ("run.end", END, "penaltyscope.status", None, "missing_attribute", "is missing."),
    (
        "run.heartbeat",
        {},
        "penaltyscope.recorder.dropped_steps",
        1.5,
        "wrong_type",
        "must be an int, got 1.5.",
    ),
    (
        "run.heartbeat",
        {},
        "penaltyscope.recorder.overhead",
        "1",
        "wrong_type",
        "must be a double, got '1'.",
    ),
    (
        "pipeline.exception",
        EXCEPTION,
        "penaltyscope.seq",
        None,
        "missing_attribute",
        "is missing.",
    ),
    (
        "pipeline.exception",
        EXCEPTION,
        "exception.message",
        7,
        "wrong_type",
        "must be a string, got 7.",
    ),
]


@BOTH
@pytest.mark.parametrize(("event", "good", "key", "value", "reason", "message"), CASES)
def test_a_bad_event_is_refused_in_words(
    encoding: ContentType,
    event: str,
    good: Attributes,
    key: str,
    value: object,
    reason: Reason,
    message: str,
) -> None:
    attributes = {k: v for k, v in {**good, key: value}.items() if v is not None}

    decoded = decode(encoding, record(f"penaltyscope.{event}", attributes))

    assert decoded.refused == {reason: 1}
    assert decoded.message.startswith(f"record 1 (penaltyscope.{event}): {key} ")
    assert decoded.message.endswith(message)


def test_the_time_of_an_event_is_its_records() -> None:
    (batch,) = decode("application/json", record("penaltyscope.run.start", {})).batches

    assert batch.events[0].time_ns == TIME_NS
