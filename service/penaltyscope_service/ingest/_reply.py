"""Answers as OTLP wants them: export responses, and ``google.rpc.Status`` on errors.

Both in the request's own encoding. Reference: OTLP specification, "OTLP/HTTP Response".
"""

from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from penaltyscope_service.decode import ContentType, Decoded, InvalidRequestError
from penaltyscope_service.ingest._refusal import RefusedError
from penaltyscope_service.ingest._signal import Signal

_CODES: Final = {
    HTTPStatus.BAD_REQUEST: Code.INVALID_ARGUMENT,
    HTTPStatus.METHOD_NOT_ALLOWED: Code.UNIMPLEMENTED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Code.INVALID_ARGUMENT,
    HTTPStatus.INTERNAL_SERVER_ERROR: Code.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: Code.UNAVAILABLE,
}
STATUSES: Final = (HTTPStatus.OK, *_CODES)
"""Every status that a reply may have."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP response."""

    status: HTTPStatus
    headers: list[tuple[bytes, bytes]]
    body: bytes


def accept(signal: Signal, content_type: ContentType, decoded: Decoded) -> Reply:
    """200; a partial success only where records were refused, as the specification says."""
    refused = sum(decoded.refused.values())
    if not refused:
        return _accept_all(signal, content_type)
    response = signal.response()
    setattr(response.partial_success, signal.rejected_field, refused)
    response.partial_success.error_message = decoded.message
    return _reply(HTTPStatus.OK, response, content_type, [])


@cache
def _accept_all(signal: Signal, content_type: ContentType) -> Reply:
    return _reply(HTTPStatus.OK, signal.response(), content_type, [])


def refuse(error: Exception, content_type: ContentType | None) -> Reply:
    """4xx or 5xx; in JSON, which people can read, where the client speaks neither encoding."""
    refusal = _as_refusal(error)
    status = Status(code=_CODES[refusal.status], message=refusal.message)
    headers = []
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"POST"))
    if refusal.retry_after_seconds is not None:
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    return _reply(refusal.status, status, content_type or "application/json", headers)


def _as_refusal(error: Exception) -> RefusedError:
    match error:
        case RefusedError():
            return error
        case InvalidRequestError():
            return RefusedError(HTTPStatus.BAD_REQUEST, str(error))
        case _:  # what went wrong inside is for the log, not for whoever asks
            return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log.")


def _reply(
    status: HTTPStatus,
    message: Message,
    content_type: ContentType,
    headers: list[tuple[bytes, bytes]],
) -> Reply:
    body = (
        json_format.MessageToJson(message, indent=None).encode()
        if content_type == "application/json"
        else message.SerializeToString()
    )
    common = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Reply(status, common + headers, body)
