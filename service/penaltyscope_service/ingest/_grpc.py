"""OTLP/gRPC: the same requests over HTTP/2, on a port of their own.

The messages stay bytes, so that they go through the same decoder as OTLP/HTTP's.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]

from penaltyscope_service.access import Headers, first_of_each
from penaltyscope_service.ingest._head import Head
from penaltyscope_service.ingest._job import awaited
from penaltyscope_service.ingest._receiver import Receiver
from penaltyscope_service.ingest._signal import SIGNALS, Signal
from penaltyscope_service.ingest._status import as_refusal, describe
from penaltyscope_service.refusal import RefusedError
from penaltyscope_service.tls import Tls

if TYPE_CHECKING:
    import grpc

_STREAMS: Final = 64
"""Most calls of one connection that are served at the same time; others wait in line."""
_KEEPALIVE_MS: Final = 60_000
"""A peer that is silent for so long is asked whether it still lives."""

_HEAD: Final = Head("application/x-protobuf", "identity")
"""What the head of a request over HTTP would say."""
_RETRY: Final = RetryInfo.DESCRIPTOR

Export = Callable[
    [AsyncIterator[bytes], "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]
]


class GrpcServer:
    """The three ``Export`` methods, in the running event loop."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        host: str,
        port: int,
        body_seconds: float,
        tls: Tls | None = None,
    ) -> None:
        self._receiver = receiver
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._body_seconds = body_seconds
        self._tls = tls

    async def start(self) -> str:
        """Answers calls from now on, and returns the address.

        Raises:
            OSError: if it cannot listen there.
        """
        import grpc  # an extra

        self._server = grpc.aio.server(options=self._options())
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    signal.service,
                    # A unary request looks like a stream of one: read that way, headers are
                    # judged before the body arrives.
                    {"Export": grpc.stream_unary_rpc_method_handler(self._export(signal))},
                )
                for signal in SIGNALS.values()
            ]
        )
        try:
            port = self._listen(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._host} port {self._port}: {error}") from error
        await self._server.start()
        return f"{'grpcs' if self._tls else 'grpc'}://{self._host}:{port}"

    async def stop(self) -> None:
        """Refuses new calls, and gives those under way a second."""
        await self._server.stop(grace=1)

    def _listen(self, address: str) -> int:
        if self._tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, self._tls.grpc_credentials())

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._receiver.max_body_bytes),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
        ]

    def _export(self, signal: Signal) -> Export:
        async def export(
            messages: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
        ) -> bytes:
            started = time.perf_counter()
            status, answer = HTTPStatus.OK, b""
            try:
                token = self._receiver.admit(_headers(context))
                with closing(self._receiver.inflow.begin()) as arriving:
                    body = await self._read(messages)
                    arriving.add(len(body))
                keep = partial(self._receiver.keep, signal, body, _HEAD, token)
                decoded = await awaited(keep)
                self._receiver.kept(decoded, token)
                answer = signal.accept(decoded).SerializeToString()
            except Exception as error:  # noqa: BLE001  # whatever it is, it is answered
                refusal = as_refusal(error)
                status = refusal.status
                _fail(context, refusal)
            self._receiver.metrics.answered(status, time.perf_counter() - started)
            return answer

        return export

    async def _read(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._body_seconds):
                async for message in messages:
                    return message
        except TimeoutError as error:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the request must arrive within {self._body_seconds:g} seconds.",
            ) from error
        raise RefusedError(HTTPStatus.BAD_REQUEST, "a call must carry one request, got none.")


def _headers(context: "grpc.aio.ServicerContext[bytes, bytes]") -> Headers:
    return first_of_each(
        [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in context.invocation_metadata() or ()
        ]
    )


def _fail(context: "grpc.aio.ServicerContext[bytes, bytes]", refusal: RefusedError) -> None:
    """Ends the call with the code, the message and, for those who read them, the details."""
    import grpc  # an extra

    status = describe(refusal)
    codes = {code.value[0]: code for code in grpc.StatusCode}
    context.set_code(codes[status.code])
    context.set_details(status.message)
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    # OpenTelemetry for Python looks for the delay here and nowhere else.
    trailers += [("google.rpc.retryinfo-bin", d.value) for d in status.details if d.Is(_RETRY)]
    context.set_trailing_metadata(trailers)
