"""Drives an ASGI application message by message, as no HTTP client can."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Answer:
    """What an application sent."""

    status: int
    headers: dict[str, str]
    body: bytes
    read: int
    """Messages of the request that were read before it answered."""


def post(
    app: ASGIApp,
    path: str,
    chunks: Iterable[bytes],
    *,
    headers: dict[str, str],
    method: str = "POST",
    hang_up: bool = False,
) -> Answer | None:
    """Sends a request in chunks, or hangs up instead of the end; ``None`` without an answer."""
    return asyncio.run(_post(app, path, list(chunks), headers, method, hang_up))


async def _post(
    app: ASGIApp,
    path: str,
    chunks: list[bytes],
    headers: dict[str, str],
    method: str,
    hang_up: bool,
) -> Answer | None:
    incoming: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    incoming.append({"type": "http.disconnect" if hang_up else "http.request"})
    queue = iter(incoming)
    outgoing: list[Message] = []
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return next(queue)

    async def send(message: Message) -> None:
        outgoing.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
    }
    await app(scope, receive, send)
    if not outgoing:
        return None
    start, body = outgoing
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], names, body["body"], read)
