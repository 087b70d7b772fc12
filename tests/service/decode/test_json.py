"""OTLP/JSON where it differs from protobuf: spellings, nulls, and what is not JSON at all."""

from typing import Any

import numpy as np
import orjson
import pytest

from penaltyscope_service.decode import Decoded, InvalidRequestError, decode_logs
from tests.service.decode.messages import only_block


def request(record: object, **resource_logs: object) -> dict[str, Any]:
    resource = {"attributes": [{"key": "penaltyscope.run.id", "value": {"stringValue": "by-hand"}}]}
    scope_logs = [{"scope": {"name": "penaltyscope"}, "logRecords": [record]}]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": scope_logs} | resource_logs]}


def stop(**attributes: object) -> dict[str, Any]:
    """A record as somebody would type it for curl."""
    values: dict[str, object] = {
        "pipeline": {"stringValue": "p"},
        "incarnation": {"stringValue": "i"},
        "step": {"intValue": "7"},
        "seq": {"intValue": 0},
        "duration": {"doubleValue": 0.5},
        "total": {"doubleValue": 1},
        "term.names": {"arrayValue": {"values": [{"stringValue": "a"}]}},
        "term.value": {"arrayValue": {"values": [{"doubleValue": 1.5}]}},
        "term.weight": {"arrayValue": {"values": [{"doubleValue": 1.0}]}},
    } | attributes
    return {
        "eventName": "penaltyscope.pipeline.stop",
        "timeUnixNano": "1700000000000000000",
        "severityNumber": 9,
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "attributes": [{"key": f"penaltyscope.{k}", "value": v} for k, v in values.items()],
    }


def decode(document: object) -> Decoded:
    return decode_logs(orjson.dumps(document), "application/json")


def test_int64_is_a_string_or_a_number_and_ids_are_hex() -> None:
    block = only_block(decode(request(stop())))

    assert (block.step[0], block.seq[0], block.total[0]) == (7, 0, 1.0)
    assert block.stop_ns[0] == 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NaN", np.nan),
        ("Infinity", np.inf),
        ("-Infinity", -np.inf),
        ("1.5e-3", 0.0015),
        ("-2", -2.0),
        (-0.0, -0.0),
        (9007199254740993, 9007199254740992.0),
    ],
)
def test_doubles_are_numbers_or_their_strings(written: object, meant: float) -> None:
    value = {"arrayValue": {"values": [{"doubleValue": written}]}}

    block = only_block(decode(request(stop(**{"term.value": value}))))

    assert block.value.tobytes() == np.float64(meant).tobytes()


@pytest.mark.parametrize("written", ["-1", -1, "1.5", 1.5, True, "", "0x1", "１", 2**63, [1], {}])  # noqa: RUF001
def test_what_is_no_int64_from_0_is_never_taken_for_one(written: object) -> None:
    try:
        decoded = decode(request(stop(seq={"intValue": written})))
    except InvalidRequestError as error:
        assert str(error).startswith("intValue must be an integer from")  # noqa: PT017
    else:
        assert sum(decoded.refused.values()) == 1


def test_fields_that_nobody_knows_are_ignored_everywhere() -> None:
    record = stop() | {"futureField": {"deep": [1]}, "body": {"stringValue": "text"}}
    record["attributes"].append({"key": "more", "value": {"futureValue": 1}, "unit": "s"})
    document = request(record, schemaUrl="https://example.org", future=None) | {"future": [1]}

    assert decode(document).received == {"pipeline.stop": 1}


def test_null_means_absent_everywhere() -> None:
    nothing: list[Any] = [
        {"resourceLogs": None},
        {"resourceLogs": [{"resource": None, "scopeLogs": None}]},
        {"resourceLogs": [{"scopeLogs": [{"scope": None, "logRecords": None}]}]},
    ]
    for document in nothing:
        assert decode(document).received == {}
    record = dict.fromkeys(stop()) | {"attributes": None}
    assert decode(request(record)).received == {"other": 1}


def test_original_field_names_are_unknown_fields() -> None:
    assert decode({"resource_logs": [{}]}).batches == ()


def in_record(**fields: object) -> dict[str, Any]:
    return request(stop() | fields)


def in_value(value: object) -> dict[str, Any]:
    return request(stop(step=value))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "body must be an object, got []."),
        (1, "body must be an object, got 1."),
        (None, "body must be an object, got None."),
        ({"resourceLogs": {}}, "resourceLogs must be a list, got {}."),
        ({"resourceLogs": [1]}, "resourceLogs must be an object, got 1."),
        ({"resourceLogs": [{"resource": []}]}, "resource must be an object, got []."),
        (
            {"resourceLogs": [{"resource": {"attributes": 1}}]},
            "attributes must be a list, got 1.",
        ),
        ({"resourceLogs": [{"scopeLogs": "x"}]}, "scopeLogs must be a list, got 'x'."),
        ({"resourceLogs": [{"scopeLogs": [[]]}]}, "scopeLogs must be an object, got []."),
        (request(7), "logRecords must be an object, got 7."),
        (in_record(eventName=7), "eventName must be a string, got 7."),
        (
            in_record(timeUnixNano=-1),
            f"timeUnixNano must be an integer from 0 to {2**64 - 1}, got -1.",
        ),
        (
            in_record(timeUnixNano=2**64 - 1, observedTimeUnixNano=10.5),
            f"observedTimeUnixNano must be an integer from 0 to {2**64 - 1}, got 10.5.",
        ),
        (
            in_record(severityNumber="SEVERITY_NUMBER_INFO"),
            f"severityNumber must be an integer from {-(2**63)} to {2**63 - 1}, "
            "got 'SEVERITY_NUMBER_INFO'.",
        ),
        (in_record(attributes={}), "attributes must be a list, got {}."),
        (in_record(attributes=[{"key": 1}]), "key must be a string, got 1."),
        (in_record(attributes=[{"key": "k", "value": 1}]), "value must be an object, got 1."),
        (in_value({"stringValue": 1}), "stringValue must be a string, got 1."),
        (in_value({"boolValue": "true"}), "boolValue must be true or false, got 'true'."),
        (
            in_value({"intValue": "9223372036854775808"}),
            f"intValue must be an integer from {-(2**63)} to {2**63 - 1}, "
            "got '9223372036854775808'.",
        ),
        (
            in_value({"doubleValue": "1e999"}),
            'doubleValue must be a number, "NaN", "Infinity" or "-Infinity", got \'1e999\'.',
        ),
        (
            in_value({"doubleValue": "nan"}),
            'doubleValue must be a number, "NaN", "Infinity" or "-Infinity", got \'nan\'.',
        ),
        (in_value({"arrayValue": []}), "arrayValue must be an object, got []."),
        (in_value({"arrayValue": {"values": {}}}), "values must be a list, got {}."),
        (in_value({"arrayValue": {"values": [1]}}), "values must be an object, got 1."),
    ],
)
def test_a_field_of_the_wrong_type_refuses_the_request_and_is_named(
    document: object, message: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(document)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"resourceLogs": [NaN]}',
        b"\xff\xfe{}",
        b'{"resourceLogs": "\xff"}',
        b'{"resourceLogs": "\\ud800"}',
        b'{"resourceLogs": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_not_json_refuses_the_request(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"^body must be JSON: "):
        decode_logs(body, "application/json")


def test_deep_nesting_in_a_value_is_just_no_value_of_ours() -> None:
    value: dict[str, Any] = {"doubleValue": 1.0}
    for _ in range(80):
        value = {"arrayValue": {"values": [value]}}

    decoded = decode(request(stop(step=value)))

    assert decoded.refused == {"wrong_type": 1}


def test_a_double_that_javascript_made_null_is_not_a_number() -> None:
    values = {"arrayValue": {"values": [{"doubleValue": None}]}}

    block = only_block(
        decode(request(stop(**{"total": {"doubleValue": None}, "term.value": values})))
    )

    assert np.isnan(block.total[0])
    assert np.isnan(block.value[0, 0])
