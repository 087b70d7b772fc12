"""JSON schemas of protobuf messages, as OTLP/JSON writes them.

Reference: OTLP specification, "JSON Protobuf Encoding".
"""

from collections.abc import Iterator
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Schema = dict[str, Any]

_HEX: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_INT64: Final[Schema] = {
    "anyOf": [{"type": "string", "pattern": "^-?[0-9]+$"}, {"type": "integer"}],
    "description": "A decimal string, or a number.",
}
_INTEGER: Final[Schema] = {"type": "integer"}
_DOUBLE: Final[Schema] = {
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}
_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: _DOUBLE,
    FieldDescriptor.TYPE_ENUM: {"type": "integer", "description": "The enum's number."},
    FieldDescriptor.TYPE_FIXED32: _INTEGER,
    FieldDescriptor.TYPE_FIXED64: _INT64,
    FieldDescriptor.TYPE_FLOAT: _DOUBLE,
    FieldDescriptor.TYPE_INT32: _INTEGER,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_SINT32: _INTEGER,
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: _INTEGER,
    FieldDescriptor.TYPE_UINT64: _INT64,
}


def reference(message: type[Message]) -> Schema:
    """Names the schema of a message."""
    return _reference(cast("Descriptor", message.DESCRIPTOR))


def schemas(*messages: type[Message]) -> dict[str, Schema]:
    """Of the messages, and of all that they hold."""
    seen: set[str] = set()
    return {
        _key(message): _schema(message)
        for root in messages
        for message in _reachable(cast("Descriptor", root.DESCRIPTOR), seen)
    }


def _reference(message: Descriptor) -> Schema:
    return {"$ref": f"#/components/schemas/{_key(message)}"}


def _key(message: Descriptor) -> str:
    """Some messages share their name with one of another package, or with ours of the API."""
    package: str = message.file.package
    local = str(message.full_name).removeprefix(f"{package}.").replace(".", "")
    return f"{'Otlp' if package.startswith('opentelemetry') else 'Google'}{local}"


def _reachable(message: Descriptor, seen: set[str]) -> Iterator[Descriptor]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _reachable(field.message_type, seen)


def _schema(message: Descriptor) -> Schema:
    if message.full_name == "google.protobuf.Any":  # its fields stand beside its type
        return {"type": "object", "properties": {"@type": {"type": "string"}}}
    return {
        "type": "object",
        "title": message.name,
        "description": f"`{message.full_name}`",
        "properties": {field.json_name: _field(field) for field in message.fields},
    }


def _field(field: FieldDescriptor) -> Schema:
    if field.message_type is not None:
        schema = _reference(field.message_type)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        hexadecimal = field.json_name in _HEX
        schema = (
            {"type": "string", "pattern": "^[0-9a-fA-F]*$", "description": "Hexadecimal."}
            if hexadecimal
            else {"type": "string", "contentEncoding": "base64"}
        )
    else:
        schema = _SCALARS[field.type]
    return {"type": "array", "items": schema} if field.is_repeated else schema
