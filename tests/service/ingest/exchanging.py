"""Feeds a request to an exchange piece by piece, as no HTTP client can."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from penaltyscope_service.ingest import SIGNALS, Exchange, Receiver, Reply


@dataclass(frozen=True)
class Answer:
    """The reply."""

    status: int
    headers: dict[str, str]
    body: bytes
    read: int
    """Pieces of the request, its end among them, that were taken before the reply."""


def post(
    receiver: Receiver,
    path: str,
    chunks: Iterable[bytes],
    *,
    headers: dict[str, str],
    method: str = "POST",
    hang_up: bool = False,
) -> Answer | None:
    """Sends a request in chunks, or hangs up instead of the end; ``None`` without an answer."""
    return asyncio.run(_post(receiver, path, list(chunks), headers, method, hang_up))


async def _post(
    receiver: Receiver,
    path: str,
    chunks: list[bytes],
    headers: dict[str, str],
    method: str,
    hang_up: bool,
) -> Answer | None:
    replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    exchange = Exchange(receiver, SIGNALS[path], replied.set_result)
    exchange.begin(method, {k.encode(): v.encode("latin-1") for k, v in headers.items()})
    read = 0
    for chunk in chunks:
        if exchange.is_read:
            exchange.feed(chunk)
            read += 1
    if hang_up:
        exchange.abandon()
    elif exchange.is_read:
        exchange.end()
        read += 1
    if hang_up and not replied.done():
        return None
    reply = await asyncio.wait_for(replied, 10)
    names = {name.decode(): value.decode() for name, value in reply.headers}
    return Answer(reply.status, names, reply.body, read)
