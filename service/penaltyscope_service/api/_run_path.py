"""Run ids in paths: any string, also one with a slash in it."""

from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Depends, HTTPException, Path
from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

from penaltyscope_service.access import Tenant, may_see

_PREFIX: Final = b"/api/runs/"

_RunId = Annotated[str, Path(description="The run, percent-encoded."), AfterValidator(unquote)]


def unknown_run(run: str) -> HTTPException:
    """404."""
    return HTTPException(404, f"run {run!r} is not known")


def _seen(run: _RunId, tenant: Tenant) -> str:
    if not may_see(run, tenant):
        raise unknown_run(run)
    return run


SeenRun = Annotated[str, Depends(_seen)]
"""The run of a path; one of another tenant is as unknown as one that is not there."""


class EncodedRunPaths:
    """Routes ``/api/runs/…`` by the path as it was sent.

    Servers decode the whole path first, after which the slash in ``a%2Fb`` looks like one that
    separates; here each segment stays encoded until its parameter is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        raw: bytes = scope.get("raw_path") or b""
        if raw.startswith(_PREFIX):
            scope = {**scope, "path": raw.decode("latin-1")}
        await self._app(scope, receive, send)
