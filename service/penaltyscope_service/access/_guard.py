"""Asks for a token in front of everything that can be read."""

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from penaltyscope_service.access._denial import DeniedError
from penaltyscope_service.access._gate import Gate
from penaltyscope_service.access._headers import first_of_each
from penaltyscope_service.access._tenant import with_tenant

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Probes carry no tokens, and these say nothing of runs."""
_CHALLENGES: Final = (
    (b"www-authenticate", b'Bearer realm="penaltyscope"'),
    (b"www-authenticate", b'Basic realm="penaltyscope", charset="UTF-8"'),
)
"""The second lets a browser ask for the token by itself: no page of ours ever holds it."""


class Guard:
    """Lets requests through to ``app`` that may read."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                token = self._gate.admit(first_of_each(scope["headers"]), "read")
            except DeniedError as denied:
                await _deny(denied)(scope, receive, send)
                return
            scope = with_tenant(scope, token.tenant if token else None)
        await self._app(scope, receive, send)


def _deny(denied: DeniedError) -> JSONResponse:
    response = JSONResponse({"detail": denied.message}, status_code=denied.status)
    if denied.status is HTTPStatus.UNAUTHORIZED:
        response.raw_headers += _CHALLENGES
    return response
