"""Why a request failed, as the ``google.rpc.Status`` that both transports of OTLP answer with.

Reference: OTLP specification, "Failures", "Bad Data" and "Throttling".
"""

import logging
from http import HTTPStatus
from typing import Final

from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from penaltyscope_service.decode import InvalidRequestError
from penaltyscope_service.refusal import RefusedError

_logger: Final = logging.getLogger(__name__)

_CODES: Final = {
    HTTPStatus.BAD_REQUEST: Code.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: Code.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: Code.PERMISSION_DENIED,
    HTTPStatus.MISDIRECTED_REQUEST: Code.PERMISSION_DENIED,
    HTTPStatus.METHOD_NOT_ALLOWED: Code.UNIMPLEMENTED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Code.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: Code.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: Code.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: Code.UNAVAILABLE,
}
STATUSES: Final = (HTTPStatus.OK, *_CODES)
"""Every HTTP status that a reply may have."""


def as_refusal(error: Exception) -> RefusedError:
    """The refusal that an error amounts to; what is none of ours is logged and not told."""
    match error:
        case RefusedError():
            return error
        case InvalidRequestError():
            return RefusedError(HTTPStatus.BAD_REQUEST, str(error))
        case _:  # what went wrong inside is for the log, not for whoever asks
            _logger.error("a request could not be handled", exc_info=error)
            return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log.")


def describe(refusal: RefusedError) -> Status:
    """Its code, its message, what is bad about the data, and when to send it again."""
    status = Status(code=_CODES[refusal.status], message=refusal.message)
    if refusal.status is HTTPStatus.BAD_REQUEST:
        bad = BadRequest()
        bad.field_violations.add(description=refusal.message)
        status.details.add().Pack(bad)
    if refusal.retry_after_seconds is not None:
        retry = RetryInfo()
        retry.retry_delay.seconds = refusal.retry_after_seconds
        status.details.add().Pack(retry)
    return status
