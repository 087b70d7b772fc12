import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from starlette.types import Message

from penaltyscope_service.ingest._body import ClientGoneError, decompress, read_body
from penaltyscope_service.ingest._refusal import RefusedError

LIMIT = 100_000


def read(messages: Iterable[Message], limit: int = LIMIT) -> bytes:
    queue = iter(messages)

    async def receive() -> Message:
        return next(queue)

    return asyncio.run(read_body(receive, limit))


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_its_chunks_in_order() -> None:
    assert read([chunk(b"ab"), chunk(b""), chunk(b"c", more=False)]) == b"abc"


def test_an_empty_body_is_read() -> None:
    assert read([{"type": "http.request"}]) == b""


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert read([chunk(b"abc", more=False)], limit=3) == b"abc"


def test_reading_stops_at_the_chunk_that_is_too_much() -> None:
    with pytest.raises(RefusedError, match="at most 3 bytes") as caught:
        read([chunk(b"ab"), chunk(b"cd")], limit=3)  # a further read would raise StopIteration

    assert caught.value.status == 413


def test_a_client_that_hangs_up_is_gone() -> None:
    with pytest.raises(ClientGoneError):
        read([chunk(b"ab"), {"type": "http.disconnect"}])


def test_identity_leaves_the_body_as_it_is() -> None:
    assert decompress(b"abc", "identity", LIMIT) == b"abc"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, LIMIT])
def test_gzip_is_undone(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert decompress(gzip.compress(body), "gzip", LIMIT) == body


def test_members_follow_each_other_also_across_chunks() -> None:
    parts = [bytes([i % 256]) * 300 for i in range(300)]
    body = b"".join(gzip.compress(part, compresslevel=0) for part in parts)
    assert len(body) > 65_536

    assert decompress(body, "gzip", LIMIT) == b"".join(parts)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body must be whole gzip, got one that ends early."),
        (b"not gzip at all", "body must be gzip: Error -4 Invalid gzip/zlib wrapper"),
        (gzip.compress(b"abc")[:-1], "body must be whole gzip, got one that ends early."),
        (gzip.compress(b"abc")[:9], "body must be whole gzip, got one that ends early."),
        (gzip.compress(b"abc") + b"tail", "body must be whole gzip, got one that ends early."),
        (gzip.compress(b"abc") + b"a longer tail", "body must be gzip: Error -4 "),
        (gzip.compress(b"abc")[:-8] + bytes(8), "body must be gzip: Error -6 Incorrect checksum"),
        (zlib.compress(b"abc"), "body must be gzip: Error -4 "),
        (
            gzip.compress(b"") * 1_025,
            "body must be at most 1024 gzip members, got more.",
        ),
    ],
    ids=[
        "empty",
        "text",
        "no trailer",
        "header only",
        "tail",
        "longer",
        "checksum",
        "zlib",
        "members",
    ],
)
def test_what_is_not_whole_gzip_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        decompress(body, "gzip", LIMIT)

    assert caught.value.status == 400
    assert caught.value.message.startswith(message)


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    assert len(bomb) < LIMIT

    tracemalloc.start()
    with pytest.raises(RefusedError) as caught:
        decompress(bomb, "gzip", LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caught.value.status == 413
    assert peak < 10 * LIMIT


def test_a_bomb_in_many_members_stops_at_the_limit() -> None:
    with pytest.raises(RefusedError) as caught:
        decompress(gzip.compress(bytes(1_000)) * 1_000, "gzip", LIMIT)

    assert caught.value.status == 413
