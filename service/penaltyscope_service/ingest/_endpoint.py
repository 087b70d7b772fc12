"""``POST /v1/logs``, ``/v1/traces`` and ``/v1/metrics``, in front of the rest of the service."""

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from penaltyscope_service.decode import Decoded, InvalidRequestError
from penaltyscope_service.ingest._body import ClientGoneError, decompress, read_body
from penaltyscope_service.ingest._head import Head, read_content_type, read_head
from penaltyscope_service.ingest._metrics import IngestMetrics
from penaltyscope_service.ingest._refusal import RefusedError
from penaltyscope_service.ingest._reply import Reply, accept, refuse
from penaltyscope_service.ingest._signal import SIGNALS, Signal
from penaltyscope_service.ingest._writer import Writer

_logger: Final = logging.getLogger(__name__)


class Ingest:
    """Takes OTLP requests; everything else goes on to ``app``.

    A plain ASGI application: a request here is dearer in routing and validation than in work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        writer: Writer,
        metrics: IngestMetrics,
        max_body_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._writer = writer
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._clock = clock

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
        self._metrics.answered(reply.status, time.perf_counter() - started)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, signal: Signal, scope: Scope, receive: Receive) -> Reply:
        try:
            head = read_head(scope, self._max_body_bytes)
            decoded = await self._keep(signal, head, receive)
        except (RefusedError, InvalidRequestError) as error:
            return refuse(error, read_content_type(scope))
        except ClientGoneError:
            raise
        except Exception as error:
            _logger.exception("a request could not be handled")
            return refuse(error, read_content_type(scope))
        self._metrics.kept(decoded)
        return accept(signal, head.content_type, decoded)

    async def _keep(self, signal: Signal, head: Head, receive: Receive) -> Decoded:
        limit = self._max_body_bytes
        self._writer.require_room()
        body = await read_body(receive, limit)
        self._metrics.received(len(body))
        received_ns = int(self._clock() * 1e9)

        def decode() -> Decoded:
            plain = decompress(body, head.content_encoding, limit)
            return signal.decode(plain, head.content_type, received_ns=received_ns)

        return await self._writer.submit(len(body), decode)
