"""Connections of the server without sockets: what they are given, and what they write."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from penaltyscope_service.access import Gate
from penaltyscope_service.connection import ConnectionLimits
from penaltyscope_service.ingest import IngestMetrics, Receiver, Writer, overloaded
from penaltyscope_service.otlp import OtlpConnection, connections
from tests.service.ingest.store import MemoryStore

_LIMITS: Final = ConnectionLimits(
    max_connections=1,
    head_seconds=30,
    body_seconds=30,
    overloaded=overloaded,
    ended=lambda _: None,
)


class Wire(asyncio.Transport):
    """Remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes some bytes."""
        self.written += data

    def is_closing(self) -> bool:
        """Whether nothing more is read or written."""
        return self._is_closing

    def close(self) -> None:
        """The end."""
        self._is_closing = True

    abort = close

    def pause_reading(self) -> None:
        """Whoever gives bytes to the connection does as if it could not be asked to wait."""

    resume_reading = pause_reading


async def elsewhere(scope: Scope, _receive: Receive, send: Send) -> None:
    """The application: says what it was asked."""
    body = f"{scope['method']} {scope['path']}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def receiving(
    gate: Gate, max_body_bytes: int
) -> Iterator[tuple[Receiver, MemoryStore, CollectorRegistry]]:
    """A receiver, where it keeps things, and what it counts."""
    store, registry = MemoryStore(), CollectorRegistry()
    writer = Writer(store, max_requests=1_000, max_bytes=1_000_000)
    writer.start()
    receiver = Receiver(
        writer=writer,
        metrics=IngestMetrics(registry),
        max_body_bytes=max_body_bytes,
        max_reading_bytes=1_000_000,
        clock=lambda: 1.5,
        gate=gate,
    )
    try:
        yield receiver, store, registry
    finally:
        writer.close()


def connect(receiver: Receiver, *kinds: type[OtlpConnection]) -> OtlpConnection:
    """A connection in the running event loop, with a wire as its transport."""
    config = uvicorn.Config(elsewhere, access_log=False, log_config=None, ws="none")
    protocol = type("Tried", (*kinds, connections(receiver, _LIMITS)), {})
    connection: OtlpConnection = protocol(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(Wire())
    return connection


def written(connection: OtlpConnection) -> bytes:
    """What the client gets."""
    assert isinstance(connection.transport, Wire)
    return connection.transport.written


async def give(connection: OtlpConnection, *chunks: bytes, wait: bool = True) -> None:
    """What the client sends, each piece, perhaps, when all that can be was answered."""
    for chunk in chunks:
        if not connection.transport.is_closing():
            connection.data_received(chunk)
        if wait:
            await answered(connection)
    await answered(connection)


async def answered(connection: OtlpConnection) -> None:
    """Waits until there is nothing to do for the connection."""
    async with asyncio.timeout(10):
        idle = 0
        while idle < 3:  # what was done last may have called for more
            is_busy = connection.pipeline and not connection.transport.is_closing()
            idle = 0 if connection.tasks or is_busy else idle + 1
            await asyncio.sleep(0)
