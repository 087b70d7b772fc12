"""Records of ours that cannot be kept: refused one by one, in both encodings."""

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList

from penaltyscope_service.decode import REASONS, ContentType, Reason
from tests.service.decode.messages import RESOURCE, Attributes, decode, record, stop

BOTH = pytest.mark.parametrize("encoding", ["application/x-protobuf", "application/json"])

CASES: list[tuple[Attributes, Reason, str]] = [
    ({"pipeline": ""}, "invalid_name", "pipeline must have 1 to 256 characters, got 0."),
    ({"pipeline": "x" * 257}, "invalid_name", "pipeline must have 1 to 256 characters, got 257."),
    ({"pipeline": 7}, "wrong_type", "pipeline must be a string, got 7."),
    ({"incarnation": ""}, "invalid_name", "incarnation must have 1 to 256 characters, got 0."),
    ({"step": 1.0}, "wrong_type", "step must be an int, got 1.0."),
    ({"step": True}, "wrong_type", "step must be an int, got True."),
    ({"step": -1}, "invalid_value", "step must be from 0 to 4611686018427387904, got -1."),
    ({"seq": 2**62 + 1}, "invalid_value", f"seq must be from 0 to {2**62}, got {2**62 + 1}."),
    ({"seq": "1"}, "wrong_type", "seq must be an int, got '1'."),
    ({"seq": -(2**63)}, "invalid_value", f"seq must be from 0 to {2**62}, got {-(2**63)}."),
    ({"duration": -0.1}, "invalid_value", "duration must be finite and at least 0, got -0.1."),
    (
        {"duration": float("nan")},
        "invalid_value",
        "duration must be finite and at least 0, got nan.",
    ),
    ({"total": "3"}, "wrong_type", "total must be a double, got '3'."),
    ({"base": True}, "wrong_type", "base must be a double, got True."),
    ({"total": AnyValue(bytes_value=b"3")}, "wrong_type", "total must be a double, got None."),
    (
        {"total": AnyValue(kvlist_value=KeyValueList())},
        "wrong_type",
        "total must be a double, got None.",
    ),
    ({"term.names": "ab"}, "wrong_type", "term.names must be strings, got 'ab'."),
    ({"term.names": []}, "wrong_length", "term.names must have at least one element, got none."),
    ({"term.names": ["a", 1]}, "wrong_type", "term.names must be strings, got ['a', 1]."),
    ({"term.names": ["a", "a"]}, "invalid_name", "term.names must be unique, got 'a'."),
    ({"term.names": ["a", ""]}, "invalid_name", "term.names must have 1 to 256 characters, got 0."),
    (
        {"term.names": ["a", "base"]},
        "invalid_name",
        "term.names must not be a reserved name, got 'base'.",
    ),
    ({"term.value": 1.0}, "wrong_type", "term.value must be doubles, got 1.0."),
    ({"term.value": [1.0, "2"]}, "wrong_type", "term.value must be doubles, got [1.0, '2']."),
    ({"term.value": [1.0, [2.0]]}, "wrong_type", "term.value must be doubles, got [1.0, None]."),
    (
        {"term.value": [1.0]},
        "wrong_length",
        "term.value must have 2 elements, one per term, got 1.",
    ),
    (
        {"term.weight": [1.0, 2.0, 3.0]},
        "wrong_length",
        "term.weight must have 2 elements, one per term, got 3.",
    ),
    (
        {"term.contribution": []},
        "wrong_length",
        "term.contribution must have 2 elements, one per term, got 0.",
    ),
    (
        {"term.gradient_norm": [1.0]},
        "wrong_length",
        "term.gradient_norm must have 2 elements, one per term, got 1.",
    ),
    ({"term.flags": [1.0, 0.0]}, "wrong_type", "term.flags must be ints, got [1.0, 0.0]."),
    ({"term.flags": [0]}, "wrong_length", "term.flags must have 2 elements, one per term, got 1."),
    (
        {"term.flags": [0, 512]},
        "invalid_value",
        "term.flags must be from 0 to 511, got [0, 512].",
    ),
    ({"term.flags": [-1, 0]}, "invalid_value", "term.flags must be from 0 to 511, got [-1, 0]."),
]


@BOTH
@pytest.mark.parametrize(("changes", "reason", "message"), CASES)
def test_a_bad_record_is_refused_in_words_and_the_others_are_kept(
    encoding: ContentType, changes: Attributes, reason: Reason, message: str
) -> None:
    bad = stop({f"penaltyscope.{name}": value for name, value in changes.items()})

    decoded = decode(encoding, stop(), bad, stop({"penaltyscope.seq": 2}))

    assert decoded.refused == {reason: 1}
    assert decoded.message == f"record 2 (penaltyscope.pipeline.stop): penaltyscope.{message}"
    assert decoded.received == {"pipeline.stop": 2}
    assert [batch.steps[0].seq.tolist() for batch in decoded.batches] == [[1, 2]]


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "pipeline",
        "incarnation",
        "step",
        "seq",
        "duration",
        "total",
        "term.names",
        "term.value",
        "term.weight",
    ],
)
def test_a_missing_attribute_is_named(encoding: ContentType, name: str) -> None:
    decoded = decode(encoding, stop(without=f"penaltyscope.{name}"))

    assert decoded.refused == {"missing_attribute": 1}
    assert decoded.message.endswith(f": penaltyscope.{name} is missing.")
    assert decoded.batches == ()


@BOTH
def test_a_time_after_2262_is_refused(encoding: ContentType) -> None:
    decoded = decode(encoding, stop(time_unix_nano=2**63))

    assert decoded.refused == {"invalid_value": 1}
    assert f"time_unix_nano must be at most {2**63 - 1}, got {2**63}." in decoded.message


@BOTH
@pytest.mark.parametrize(
    ("resource", "reason", "message"),
    [
        ({}, "missing_run_id", "the resource attribute penaltyscope.run.id is missing"),
        ({"run.id": ""}, "invalid_name", "penaltyscope.run.id must have 1 to 256 characters"),
        ({"run.id": 7}, "wrong_type", "penaltyscope.run.id must be a string, got 7."),
        ({"rank": "0"}, "wrong_type", "penaltyscope.rank must be an int, got '0'."),
        (
            {"rank": -1},
            "invalid_value",
            "penaltyscope.rank must be from 0 to 4611686018427387904, got -1.",
        ),
        ({"world_size": 1.5}, "wrong_type", "penaltyscope.world_size must be an int, got 1.5."),
        (
            {"attempt": -1},
            "invalid_value",
            "penaltyscope.attempt must be from 0 to 4611686018427387904, got -1.",
        ),
        ({"run.tag.x": [1]}, "wrong_type", "penaltyscope.run.tag.x must be a string, got [1]."),
    ],
)
def test_a_bad_resource_refuses_each_of_its_records_but_no_foreign_one(
    encoding: ContentType, resource: Attributes, reason: Reason, message: str
) -> None:
    prefixed = {f"penaltyscope.{name}": value for name, value in resource.items()}
    resource = {**RESOURCE, **prefixed} if resource else {"service.name": "x"}
    foreign = record("", {"anything": 1})

    decoded = decode(encoding, stop(), foreign, stop(), resource=resource)

    assert decoded.refused == {reason: 2}
    assert decoded.received == {"other": 1}
    assert message in decoded.message
    assert decoded.batches == ()


def test_every_reason_is_reached_by_a_case_above() -> None:
    assert {reason for _, reason, _ in CASES} | {"missing_attribute", "missing_run_id"} == set(
        REASONS
    )


@BOTH
def test_a_message_stays_short_whatever_was_sent(encoding: ContentType) -> None:
    decoded = decode(encoding, stop({"penaltyscope.step": "x" * 1_000_000}))

    assert len(decoded.message) < 200


@BOTH
def test_term_names_of_the_scope_are_refused_record_by_record(encoding: ContentType) -> None:
    bare = stop(without="penaltyscope.term.names")
    scope = {"penaltyscope.term.names": ["same", "same"]}

    decoded = decode(encoding, bare, stop(), bare, scope=scope)

    assert decoded.refused == {"invalid_name": 2}
    assert decoded.received == {"pipeline.stop": 1}
