"""The OpenAPI document describes OTLP, though the framework does not serve it."""

from typing import Any

import jsonschema_rs
import orjson
import pytest

from penaltyscope_service.ingest import describe_paths
from penaltyscope_service.ingest._signal import SIGNALS
from penaltyscope_service.ingest._status import STATUSES
from tests.fuzz.corpus import corpus


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    paths, schemas = describe_paths()
    return {"paths": paths, "components": {"schemas": schemas}}


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:  # noqa: ANN401
    return jsonschema_rs.validator_for(document | schema)


def test_every_signal_every_status_and_both_encodings_are_there(document: dict[str, Any]) -> None:
    assert document["paths"].keys() == SIGNALS.keys()
    for path in document["paths"].values():
        assert path["post"]["responses"].keys() == {str(status.value) for status in STATUSES}
        for described in (path["post"]["requestBody"], *path["post"]["responses"].values()):
            assert described["content"].keys() == {"application/json", "application/x-protobuf"}


def test_every_schema_that_is_referred_to_is_there(document: dict[str, Any]) -> None:
    text = orjson.dumps(document).decode()
    referred = {piece.partition('"')[0] for piece in text.split('"#/components/schemas/')[1:]}

    assert referred <= document["components"]["schemas"].keys()
    assert {"OtlpLogRecord", "OtlpSpan", "OtlpMetric", "OtlpStatus", "GoogleStatus"} <= referred


@pytest.mark.parametrize("path", SIGNALS)
def test_requests_as_exporters_write_them_are_valid(document: dict[str, Any], path: str) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    valid = validator(document, body["schema"])

    for request in corpus(path, "application/json"):
        valid.validate(orjson.loads(request))


@pytest.mark.parametrize(
    "record",
    [
        {"timeUnixNano": "soon"},
        {"severityNumber": "SEVERITY_NUMBER_INFO"},
        {"traceId": "not hex"},
        {"attributes": {}},
        {"body": {"doubleValue": "much"}},
        {"eventName": 1},
    ],
)
def test_a_record_that_is_refused_is_not_valid(
    document: dict[str, Any], record: dict[str, Any]
) -> None:
    valid = validator(document, {"$ref": "#/components/schemas/OtlpLogRecord"})

    assert not valid.is_valid(record)
