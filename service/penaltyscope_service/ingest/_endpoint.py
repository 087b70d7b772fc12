"""``POST /v1/logs``, ``/v1/traces`` and ``/v1/metrics``, in front of the rest of the service."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from penaltyscope_service.ingest._body import ClientGoneError, read_body
from penaltyscope_service.ingest._head import read_content_type, read_head
from penaltyscope_service.ingest._receiver import Receiver
from penaltyscope_service.ingest._reply import Reply, accept, refuse
from penaltyscope_service.ingest._signal import SIGNALS, Signal
from penaltyscope_service.ingest._status import as_refusal


class Ingest:
    """Takes OTLP/HTTP requests; everything else goes on to ``app``.

    A plain ASGI application: a request here is dearer in routing and validation than in work.
    """

    def __init__(self, app: ASGIApp, receiver: Receiver) -> None:
        self._app = app
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        signal = SIGNALS.get(scope["path"]) if scope["type"] == "http" else None
        if signal is None:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            reply = await self._answer(signal, scope, receive)
        except ClientGoneError:
            return
        self._receiver.metrics.answered(reply.status, time.perf_counter() - started)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, signal: Signal, scope: Scope, receive: Receive) -> Reply:
        limit = self._receiver.max_body_bytes
        try:
            head = read_head(scope, limit)
            token = self._receiver.admit(scope["headers"])
            body = await read_body(receive, limit, self._receiver.inflow)
            decoded = await self._receiver.keep(
                signal, body, head.content_type, head.content_encoding, token=token
            )
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, it is answered
            return refuse(as_refusal(error), read_content_type(scope))
        return accept(signal, head.content_type, decoded)
