"""The OTLP paths of the OpenAPI document: they are served outside of the framework."""

from http import HTTPStatus
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from penaltyscope_service.ingest._schema import reference, schemas
from penaltyscope_service.ingest._signal import SIGNALS, Signal
from penaltyscope_service.ingest._status import STATUSES, describe
from penaltyscope_service.problem import CHALLENGES, RETRY_AFTER
from penaltyscope_service.refusal import RefusedError

_BINARY: Final = {"type": "string", "contentMediaType": "application/x-protobuf"}
_WHY: Final = {
    HTTPStatus.BAD_REQUEST: "The body cannot be decoded; sending it again is of no use.",
    HTTPStatus.UNAUTHORIZED: "No token, or one that is not known, where one is needed.",
    HTTPStatus.FORBIDDEN: "The token does not have the scope ingest.",
    HTTPStatus.MISDIRECTED_REQUEST: "Host is a name that may be somebody else's.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Only POST is.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large, before or after decompression.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Content-Type or Content-Encoding is not a known one.",
    HTTPStatus.TOO_MANY_REQUESTS: "The token has sent more than it may; again later.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect; the service's log has it.",
    HTTPStatus.SERVICE_UNAVAILABLE: "No room at the moment; the same request may be sent again.",
}
_ALLOW: Final = {
    "Allow": {"description": "What is.", "schema": {"type": "string", "enum": ["POST"]}}
}
_CONTENT_ENCODING: Final = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "description": "How the body is compressed.",
    "schema": {"type": "string", "enum": ["identity", "gzip", "zstd"]},
}


def describe_paths() -> tuple[dict[str, Any], dict[str, Any]]:
    """The paths, and the schemas that they refer to."""
    paths = {path: {"post": _operation(path, signal)} for path, signal in SIGNALS.items()}
    messages = [m for signal in SIGNALS.values() for m in (signal.request, signal.response)]
    return paths, schemas(*messages, Status)


def _operation(path: str, signal: Signal) -> dict[str, Any]:
    name = path.rpartition("/")[2]
    responses: dict[str, Any] = {
        "200": {
            "description": "Everything that was accepted is durable; a partial success says how "
            "much was not accepted, and why.",
            "content": _content(signal.response, _partial(signal)),
        }
    }
    for status in STATUSES[1:]:
        refusal = RefusedError(status, _WHY[status])
        responses[str(status.value)] = {
            "description": _WHY[status],
            "content": _content(Status, describe(refusal)),
        }
    for code in ("429", "503"):
        responses[code]["headers"] = RETRY_AFTER
    responses["401"]["headers"] = CHALLENGES
    responses["405"]["headers"] = _ALLOW
    return {
        "tags": ["otlp"],
        "summary": f"Takes {name} over OTLP/HTTP",
        "operationId": f"export_{name}",
        "parameters": [_CONTENT_ENCODING],
        "requestBody": {"required": True, "content": _content(signal.request, _request(signal))},
        "responses": responses,
    }


def _partial(signal: Signal) -> Message:
    """A few of the records were refused."""
    response = signal.response()
    setattr(response.partial_success, signal.rejected_field, 2)
    response.partial_success.error_message = "2 records were not accepted, and this is why."
    answer: Message = response
    return answer


def _request(signal: Signal) -> Message:
    """Of a job that has a name and nothing to say."""
    request = signal.request()
    resource = getattr(request, request.DESCRIPTOR.fields[0].name).add().resource
    resource.attributes.add(key="penaltyscope.run.id").value.string_value = "kd-7"
    return request


def _content(message: type[Message], example: Message) -> dict[str, Any]:
    binary = _BINARY | {"description": f"`{message.DESCRIPTOR.full_name}`, binary."}
    return {
        "application/json": {
            "schema": reference(message),
            "example": json_format.MessageToDict(example),
        },
        "application/x-protobuf": {"schema": binary},
    }
