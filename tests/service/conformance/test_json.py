"""Every rule of the OTLP specification's "JSON Protobuf Encoding", over a real connection."""

from typing import Any, Final

import httpx
import orjson
import pytest

pytestmark = pytest.mark.conformance

JSON: Final = {"content-type": "application/json"}


def record(**fields: object) -> dict[str, Any]:
    """A step, with further or other fields of its log record."""
    values: dict[str, object] = {
        "pipeline": {"stringValue": "p"},
        "incarnation": {"stringValue": "i"},
        "step": {"intValue": "7"},
        "seq": {"intValue": "0"},
        "duration": {"doubleValue": 0.5},
        "total": {"doubleValue": 1},
        "term.names": {"arrayValue": {"values": [{"stringValue": "a"}]}},
        "term.value": {"arrayValue": {"values": [{"doubleValue": 1.5}]}},
        "term.weight": {"arrayValue": {"values": [{"doubleValue": 1}]}},
    } | fields.pop("values", {})  # type: ignore[operator]
    attributes = [{"key": f"penaltyscope.{k}", "value": v} for k, v in values.items()]
    return {"eventName": "penaltyscope.pipeline.stop", "attributes": attributes} | fields


ACCEPTED: Final[dict[str, dict[str, Any]]] = {
    "traceId and spanId are hex-encoded, in either case": {
        "traceId": "5B8EFFF798038103d269b633813fc60c",
        "spanId": "EEE19b7ec3c1b174",
    },
    "enum fields are integers": {"severityNumber": 9},
    "fields with unknown names MUST be ignored": {
        "severityOpacity": 1,
        "future": {"nested": [None, {"a": "b"}]},
    },
    "original field names are no keys, so they are unknown names": {
        "severity_number": "not looked at",
        "time_unix_nano": {},
    },
    "64-bit integers are decimal strings": {"timeUnixNano": "1700000000000000000"},
    "64-bit integers may be numbers as well": {"timeUnixNano": 1_700_000_000_000_000_000},
    "null is the field's default": {"traceId": None, "timeUnixNano": None, "body": None},
    "a double may be NaN": {
        "values": {"total": {"doubleValue": "NaN"}},
    },
    "a double may be infinite": {
        "values": {"total": {"doubleValue": "-Infinity"}},
    },
    "a double may be a string": {"values": {"duration": {"doubleValue": "2.5e-1"}}},
    "an int64 may be a number": {"values": {"step": {"intValue": 7}}},
    "flags and dropped counts are numbers": {"flags": 1, "droppedAttributesCount": 2},
}
REFUSED: Final[dict[str, dict[str, Any]]] = {
    "the names of enum values MUST NOT be used": {"severityNumber": "SEVERITY_NUMBER_INFO"},
    "a 64-bit integer is whole": {"timeUnixNano": 1.5},
    "a 64-bit integer has at most 64 bits": {"timeUnixNano": "18446744073709551616"},
    "a message is an object": {"attributes": [1]},
    "a repeated field is a list": {"attributes": {}},
}


def post(http: httpx.Client, run: str, made: dict[str, Any]) -> httpx.Response:
    resource = {"attributes": [{"key": "penaltyscope.run.id", "value": {"stringValue": run}}]}
    scope_logs = [{"scope": {"name": "penaltyscope"}, "logRecords": [made]}]
    document = {"resourceLogs": [{"resource": resource, "scopeLogs": scope_logs}]}
    return http.post("/v1/logs", content=orjson.dumps(document), headers=JSON)


@pytest.mark.parametrize(("rule", "fields"), ACCEPTED.items(), ids=ACCEPTED)
def test_what_the_mapping_allows_is_kept(
    http: httpx.Client, rule: str, fields: dict[str, Any]
) -> None:
    answer = post(http, rule, record(**fields))

    assert (answer.status_code, answer.content) == (200, b"{}")
    steps = {run["run"]: run["steps"] for run in http.get("/api/runs").json()["runs"]}
    assert steps[rule] == 1


@pytest.mark.parametrize(("rule", "fields"), REFUSED.items(), ids=REFUSED)
def test_what_the_mapping_forbids_is_bad_data(
    http: httpx.Client, rule: str, fields: dict[str, Any]
) -> None:
    answer = post(http, rule, record(**fields))

    assert answer.status_code == 400
    assert answer.json()["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"


def test_a_64_bit_integer_is_answered_as_a_decimal_string(http: httpx.Client) -> None:
    made = record(values={"seq": {"intValue": -1}})

    answer = post(http, "partial", made).json()

    assert answer["partialSuccess"]["rejectedLogRecords"] == "1"


def test_keys_of_an_answer_are_in_lower_camel_case(http: httpx.Client) -> None:
    answer = post(http, "partial", record(values={"seq": {"intValue": -1}})).json()

    assert answer.keys() == {"partialSuccess"}
    assert answer["partialSuccess"].keys() == {"rejectedLogRecords", "errorMessage"}
