"""The answer to a connection that is one too many."""

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from penaltyscope_service.access import first_of_each
from penaltyscope_service.ingest._head import read_content_type
from penaltyscope_service.ingest._reply import refuse
from penaltyscope_service.ingest._signal import SIGNALS
from penaltyscope_service.refusal import RefusedError

_RETRY_SECONDS: Final = 5
_MESSAGE: Final = "too many connections are open; try again later."


async def overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 503 whatever is asked, and closes the connection."""
    if scope["path"] not in SIGNALS:
        told = {"retry-after": str(_RETRY_SECONDS), "connection": "close"}
        response = JSONResponse({"detail": _MESSAGE}, status_code=503, headers=told)
        await response(scope, receive, send)
        return
    refusal = RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE, _MESSAGE, retry_after_seconds=_RETRY_SECONDS
    )
    reply = refuse(refusal, read_content_type(first_of_each(scope["headers"])))
    headers = [*reply.headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
