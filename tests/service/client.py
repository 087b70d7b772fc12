"""An HTTP client that calls an application in this process, without a socket."""

import asyncio
from types import TracebackType
from typing import Self

import httpx
from starlette.types import ASGIApp, Message


class Client:
    """Runs the application's lifespan around its block."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Sends a GET request; underscores in headers' names are dashes."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """Sends a POST request."""
        return self.request("POST", path, body, headers)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Sends a request."""
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return self._runner.run(self._request(method, path, body, named))

    async def _request(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=body, headers=headers)

    async def _start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        lifespan = self._app(scope, self._to_app.get, self._from_app.put)
        self._lifespan = asyncio.ensure_future(lifespan)
        await self._exchange("startup")

    async def _stop(self) -> None:
        await self._exchange("shutdown")
        await self._lifespan

    async def _exchange(self, phase: str) -> None:
        await self._to_app.put({"type": f"lifespan.{phase}"})
        answer = await self._from_app.get()
        assert answer["type"] == f"lifespan.{phase}.complete", answer
