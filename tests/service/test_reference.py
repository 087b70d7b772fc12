"""The OpenAPI document says everything about every operation, and its examples are true."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from penaltyscope_service.access import Gate, add_token, read_tokens
from penaltyscope_service.app import create_service
from penaltyscope_service.ingest._signal import SIGNALS
from penaltyscope_service.settings import Settings
from tests.service.client import Client

Operation = tuple[str, dict[str, Any]]
NOT_JSON = {"/metrics", "/api/runs/{run}/export"}
FAILURES = {"500", "503"}
DENIALS = {"401", "403", "421"}
ANSWERS = {
    "/api/runs": FAILURES | DENIALS | {"200", "404", "422"},
    "/api/runs/{run}": FAILURES | DENIALS | {"200", "404", "422"},
    "/api/runs/{run}/series": FAILURES | DENIALS | {"200", "404", "422"},
    "/api/runs/{run}/export": FAILURES | DENIALS | {"200", "404", "422", "501"},
    "/healthz": FAILURES | {"200"},
    "/readyz": FAILURES | {"200"},
    "/metrics": FAILURES | DENIALS | {"200"},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("document")
    secret = add_token(folder / "tokens.toml", "reader", ["read"])
    gate = Gate(read_tokens(folder / "tokens.toml"))
    app = create_service(Settings(data_dir=folder), gate=gate).app
    with Client(app) as client:
        answer = client.get("/openapi.json", authorization=f"Bearer {secret}")
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_every_operation_has_a_name_of_its_own_a_tag_and_a_sentence(
    document: dict[str, Any],
) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    names = [operation["operationId"] for _, operation in operations(document)]

    assert len(set(names)) == len(names)
    for path, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags, path
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (path, parameter["name"])
            assert parameter["schema"], (path, parameter["name"])


def test_every_answer_is_there_with_its_body(document: dict[str, Any]) -> None:
    described = dict(operations(document))

    assert described.keys() == ANSWERS.keys() | SIGNALS.keys()
    for path, answers in ANSWERS.items():
        assert described[path]["responses"].keys() == answers, path
    for path, operation in described.items():
        for status, answer in operation["responses"].items():
            assert answer["description"] not in ("", "Successful Response"), (path, status)
            assert answer["content"], (path, status)
            for content in answer["content"].values():
                assert content["schema"], (path, status)
        for status in {"401", "429", "503"} & operation["responses"].keys():
            assert operation["responses"][status]["headers"], (path, status)


def test_every_body_of_json_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    checked = 0
    for path, operation in operations(document):
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            if content := body.get("content", {}).get("application/json"):
                schema = {**document, **content["schema"]}
                jsonschema_rs.validator_for(schema).validate(content["example"])
                checked += 1
        good = operation["responses"]["200"]["content"]
        assert "application/json" in good or path in NOT_JSON, path

    assert checked > 50


def test_no_object_of_the_api_has_a_property_that_may_be_anything(
    document: dict[str, Any],
) -> None:
    ours = {
        name: schema
        for name, schema in document["components"]["schemas"].items()
        if not name.startswith(("Otlp", "Google"))
    }
    assert {"Run", "RunDetail", "Series", "Problem", "Readiness"} <= ours.keys()
    for name, schema in ours.items():
        assert schema["description"], name
        for key, value in schema["properties"].items():
            assert value.keys() & {"type", "$ref", "anyOf", "enum", "const"}, (name, key)
        answers_always = set(schema.get("required", []))
        assert answers_always >= schema["properties"].keys(), name
