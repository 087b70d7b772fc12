"""HTTP clients of what runs in this process: an application, or a whole service."""

import asyncio
from types import TracebackType
from typing import Self

import httpx
import uvicorn
from starlette.types import ASGIApp, Message
from uvicorn.server import ServerState

from penaltyscope_service.app import Service
from penaltyscope_service.connection import ConnectionLimits
from penaltyscope_service.ingest import overloaded
from penaltyscope_service.otlp import OtlpConnection, connections


class Client:
    """Runs the application's lifespan around its block, and calls it without a socket."""

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
        async with self._client() as client:
            return await client.request(method, path, content=body, headers=headers)

    def _client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._app)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

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


class ServiceClient(Client):
    """Calls a service over connections as its server makes them."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.app)
        limits = ConnectionLimits(
            max_connections=10,
            head_seconds=30,
            body_seconds=30,
            overloaded=overloaded,
            ended=lambda _: None,
        )
        self._protocol = connections(service.receiver, limits)
        self._config = uvicorn.Config(service.app, access_log=False, log_config=None, ws="none")

    def _client(self) -> httpx.AsyncClient:
        port = self._listening.sockets[0].getsockname()[1]
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def _connect(self) -> OtlpConnection:
        return self._protocol(config=self._config, server_state=self._state, app_state={})

    async def _start(self) -> None:
        await super()._start()
        self._state = ServerState()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connect, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self._listening.close()
        await super()._stop()
