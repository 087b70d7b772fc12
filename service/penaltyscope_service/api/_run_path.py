"""Run ids in paths: any string, also one with a slash in it."""

from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIX: Final = b"/api/runs/"

RunId = Annotated[str, Path(description="The run, percent-encoded."), AfterValidator(unquote)]


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
