"""The client and the service's OpenAPI document say the same, so that neither can drift."""

import inspect
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from penaltyscope import client as package
from penaltyscope.client import Client, Format, Quantity, State
from penaltyscope_service.app import create_service
from penaltyscope_service.settings import Settings
from tests.service.client import Client as Caller

NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
SCALARS = {"integer": int, "number": float, "string": str}
OWN_PARAMETERS = {"runs": set[str](), "export": {"path"}}
"""What only the client's method has."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("document"))
    with Caller(create_service(settings).app) as caller:
        found: dict[str, Any] = caller.get("/openapi.json").json()
    return found


def read_operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        methods["get"]["operationId"]: methods["get"]
        for methods in document["paths"].values()
        if "get" in methods
    }


def methods() -> dict[str, Any]:
    public = inspect.getmembers(Client, inspect.isfunction)
    return {name: m for name, m in public if not name.startswith("_") and name != "close"}


def referred(schema: object) -> Iterator[str]:
    """The names of all schemas that a piece of the document refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for part in schema.values():
            yield from referred(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from referred(part)


def schemas(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the answers of the operations that read, and all that is in them."""
    known = document["components"]["schemas"]
    names: set[str] = set()
    found = set(referred(list(read_operations(document).values())))
    while found:
        names |= found
        found = {name for new in found for name in referred(known[new])} - names
    return {name: known[name] for name in names}


def as_type(schema: dict[str, Any]) -> Any:  # noqa: ANN401  # any type
    """What a field of this schema is in Python."""
    if "$ref" in schema:
        return getattr(package, schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "const" in schema:
        return Literal[schema["const"]]
    match schema:
        case {"anyOf": [*kinds, {"type": "null"}]}:
            own = {"anyOf": kinds} if len(kinds) > 1 else kinds[0]
            return as_type(own) | None
        case {"anyOf": kinds}:
            assert kinds == NUMBER["anyOf"]
            return float
        case {"type": "array", "items": items}:
            return types.GenericAlias(tuple, (as_type(items), ...))
        case {"type": "object", "additionalProperties": values}:
            return types.GenericAlias(Mapping, (str, as_type(values)))
    return SCALARS[schema["type"]]


def same(declared: Any, described: Any) -> bool:  # noqa: ANN401  # any types
    """Whether two types are the same; the order of a ``Literal`` does not matter."""
    if get_origin(declared) is Literal:
        return set(get_args(declared)) == set(get_args(described))
    return bool(declared == described)


def test_every_operation_that_reads_has_a_method_and_every_method_an_operation(
    document: dict[str, Any],
) -> None:
    assert methods().keys() == read_operations(document).keys()


def test_every_parameter_of_an_operation_is_one_of_its_method(document: dict[str, Any]) -> None:
    for name, operation in read_operations(document).items():
        described = {
            parameter["name"]: parameter["schema"].get("default")
            for parameter in operation.get("parameters", [])
        }
        signature = inspect.signature(methods()[name]).parameters
        declared = signature.keys() - {"self"} - OWN_PARAMETERS.get(name, set())
        assert declared == described.keys(), name
        for parameter, default in described.items():
            if default not in (None, []) and signature[parameter].default is not None:
                assert signature[parameter].default == default, (name, parameter)


def test_every_schema_is_a_dataclass_with_its_fields_and_their_types(
    document: dict[str, Any],
) -> None:
    described = schemas(document)
    assert {"Runs", "RunDetail", "Series", "Problem", "Readiness", "Health"} <= described.keys()
    for name, schema in described.items():
        kind = getattr(package, name)
        hints = get_type_hints(kind)
        assert {field.name for field in fields(kind)} == schema["properties"].keys(), name
        for field, property_ in schema["properties"].items():
            assert same(hints[field], as_type(property_)), (name, field, hints[field])


def test_every_dataclass_is_a_schema(document: dict[str, Any]) -> None:
    shipped = {name for name in package.__all__ if is_dataclass(getattr(package, name))}

    assert shipped == schemas(document).keys()


@pytest.mark.parametrize(
    ("kind", "operation", "parameter"),
    [
        (State, "runs", "state"),
        (Quantity, "series", "quantity"),
        (Format, "export", "format"),
    ],
)
def test_the_words_that_a_parameter_may_be_are_the_service_s(
    document: dict[str, Any], kind: types.GenericAlias, operation: str, parameter: str
) -> None:
    (schema,) = (
        p["schema"]
        for p in read_operations(document)[operation]["parameters"]
        if p["name"] == parameter
    )

    assert set(get_args(kind)) == set(schema.get("items", schema)["enum"])
