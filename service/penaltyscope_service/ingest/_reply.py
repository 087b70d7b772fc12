"""Answers as OTLP wants them: export responses, and ``google.rpc.Status`` on errors.

Both in the request's own encoding. Reference: OTLP specification, "OTLP/HTTP Response".
"""

from dataclasses import dataclass
from functools import cache
from http import HTTPStatus

from google.protobuf import json_format
from google.protobuf.message import Message

from penaltyscope_service.decode import ContentType, Decoded
from penaltyscope_service.ingest._signal import Signal
from penaltyscope_service.ingest._status import describe
from penaltyscope_service.refusal import RefusedError


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP response."""

    status: HTTPStatus
    headers: list[tuple[bytes, bytes]]
    body: bytes
    fields: bytes
    """The headers as they are sent."""


def accept(signal: Signal, content_type: ContentType, decoded: Decoded) -> Reply:
    """200; a partial success only where records were refused, as the specification says."""
    if not decoded.refused:
        return _accept_all(signal, content_type)
    return _reply(HTTPStatus.OK, signal.accept(decoded), content_type, [])


@cache
def _accept_all(signal: Signal, content_type: ContentType) -> Reply:
    return _reply(HTTPStatus.OK, signal.response(), content_type, [])


def refuse(refusal: RefusedError, content_type: ContentType | None) -> Reply:
    """4xx or 5xx; in JSON, which people can read, where the client speaks neither encoding."""
    headers = []
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append((b"allow", b"POST"))
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="penaltyscope"'))
    if refusal.retry_after_seconds is not None:
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    return _reply(refusal.status, describe(refusal), content_type or "application/json", headers)


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
    headers = common + headers
    fields = b"".join(b"%s: %s\r\n" % header for header in headers)
    return Reply(status, headers, body, fields)
