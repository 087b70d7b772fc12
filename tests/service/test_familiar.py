"""Heads that are known by their bytes: what is answered must not depend on it."""

import asyncio
import gc
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from penaltyscope_service.access import Gate, Token, first_of_each
from penaltyscope_service.access._token import digest
from penaltyscope_service.familiar import FamiliarHead
from penaltyscope_service.ingest import Receiver
from penaltyscope_service.otlp import OtlpConnection
from tests.service.blocks import make_block, make_request
from tests.service.connecting import connect, give, receiving, written

LIMIT: Final = 2_000
SENDER, READER = b"pst_sender", b"pst_reader"
TOKENS: Final = (
    Token(name="sender", sha256=digest(SENDER), scopes=["ingest"]),
    Token(name="reader", sha256=digest(READER), scopes=["read"]),
)
ONE, TWO = (make_request(make_block(steps=steps), run="r") for steps in (1, 2))
HEAD: Final = (
    b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer pst_sender\r\n"
    b"Content-Type: application/x-protobuf\r\n"
)


def post(body: bytes, fields: bytes = b"", head: bytes = HEAD) -> bytes:
    """A request whose length stands between other headers."""
    return head + b"Content-Length: %d\r\n%b\r\n" % (len(body), fields) + body


def chunked(*pieces: bytes) -> bytes:
    """A body of unknown length."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


# What a parser that lets lines end with a bare line feed would take for a head with a body.
DISGUISED: Final = HEAD.replace(b"\r\n", b"\n") + b"x: 1\n\n\r\nContent-Length: 5\r\n\r\n12345"
REQUESTS: Final[dict[str, bytes]] = {
    "one": post(ONE),
    "two": post(TWO),
    "another head": post(ONE, b"User-Agent: other\r\n"),
    "not protobuf": post(b"\xff\xff"),
    "empty": post(b""),
    "largest": post(bytes(LIMIT)),
    "too large": post(bytes(LIMIT + 1)),
    "JSON": post(b'{"resourceLogs": []}', head=HEAD.replace(b"x-protobuf", b"json")),
    "another type": post(ONE, head=HEAD.replace(b"x-protobuf", b"x-other")),
    "another path": post(ONE, head=HEAD.replace(b"/v1/logs", b"/v1/traces")),
    "the same path": post(ONE, head=HEAD.replace(b"/v1/logs", b"/v1/l%6fgs?x")),
    "elsewhere": post(ONE, head=HEAD.replace(b"/v1/logs", b"/elsewhere")),
    "no token": post(ONE, head=HEAD.replace(b"Authorization", b"X-Other")),
    "unknown token": post(ONE, head=HEAD.replace(SENDER, b"pst_nobody")),
    "token of a reader": post(ONE, head=HEAD.replace(SENDER, READER)),
    "GET": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HEAD": b"HEAD /v1/logs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "PUT": post(ONE, head=HEAD.replace(b"POST", b"PUT")),
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(ONE[:9], ONE[9:]),
    "both lengths": post(chunked(ONE), b"Transfer-Encoding: chunked\r\n"),
    "expecting": post(ONE, b"Expect: 100-continue\r\n"),
    "upgrade": post(ONE, b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "lower case": post(ONE, head=HEAD.lower()),
    "leading zeros": HEAD + b"Content-Length: 00%d\r\n\r\n" % len(ONE) + ONE,
    "a tab and spaces": HEAD + b"Content-Length:\t %d \r\n\r\n" % len(ONE) + ONE,
    "a folded length": HEAD + b"Content-Length: %d\r\n 0\r\n\r\n" % len(ONE) + ONE,
    "two lengths": post(ONE, b"Content-Length: %d\r\n" % len(ONE)),
    "a huge length": HEAD + b"Content-Length: 123456789012345678901234567890\r\n\r\n",
    "no number": HEAD + b"Content-Length: -1\r\n\r\n",
    "bare line feeds": DISGUISED,
    "an empty line before": b"\r\n" + post(ONE),
    "a long head": post(ONE, b"X-Long: %b\r\n" % (b"a" * 5_000)),
    "kept alive": post(ONE, b"Connection: keep-alive\r\n"),
    "the last": post(ONE, b"Connection: close\r\n"),
    "1.0": post(ONE, head=HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "no HTTP": b"\x00\x01\r\n\r\n",
}


@pytest.mark.parametrize("fields", [b"", b"Accept: */*\r\nUser-Agent: a b\r\n"])
def test_a_head_is_known_whatever_its_length_says(fields: bytes) -> None:
    before = HEAD + b"Content-Length: "
    after = b"\r\n" + fields + b"\r\n"
    familiar = FamiliarHead.of(before + b"12" + after + b"body", {b"content-length": b"12"})

    assert familiar == FamiliarHead(before, after)
    start = len(before) + len(after)
    for length in (b"7", b"70", b"7000000000"):
        request = before + length + after + b"body"
        assert familiar.body(request, 0) == (start + len(length), int(length))
        assert familiar.body(b"GET / HTTP/1.1" + request, 14) == (
            14 + start + len(length),
            int(length),
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: ",
        HEAD + b"Content-Length: 12",
        HEAD + b"Content-Length: 12\r\n\r",
        HEAD + b"Content-Length: 12\r\nx: y\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 012\r\n\r\n",
        HEAD + b"Content-Length: +12\r\n\r\n",
        HEAD + b"Content-Length: 1 2\r\n\r\n",
        HEAD + b"Content-Length: 12 \r\n\r\n",
        HEAD + b"Content-Length: \r\n\r\n",
        HEAD + b"Content-Length: 12\n\r\n",
        HEAD + b"Content-Length: 12345678901\r\n\r\n",
        HEAD + "Content-Length: \u0661\r\n\r\n".encode(),
        HEAD.lower() + b"Content-Length: 12\r\n\r\n",
        b"\r\n" + post(ONE),
    ],
)
def test_another_head_is_not_known(data: bytes) -> None:
    familiar = FamiliarHead.of(post(ONE), {b"content-length": b"%d" % len(ONE)})

    assert familiar is not None
    assert familiar.body(data, 0) is None


@pytest.mark.parametrize(
    "name",
    [
        *("GET", "PUT", "chunked", "both lengths", "expecting", "upgrade", "empty"),
        *("leading zeros", "a tab and spaces", "two lengths", "bare line feeds"),
        *("an empty line before", "a long head"),
    ],
)
def test_an_unusual_head_is_not_remembered(name: str) -> None:
    lines = REQUESTS[name].lower().partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    assert FamiliarHead.of(REQUESTS[name], first_of_each(pairs)) is None


class Parsing(OtlpConnection):
    """Knows no head."""

    def _recognise(self, data: bytes, place: int) -> int | None:
        return None


def outcome(
    chunks: Sequence[bytes], *kinds: type[OtlpConnection], wait: bool
) -> tuple[object, ...]:
    """All that can be told of a connection from outside."""

    async def run(receiver: Receiver) -> OtlpConnection:
        connection = connect(receiver, *kinds)
        await give(connection, *chunks, wait=wait)
        return connection

    with receiving(Gate(TOKENS), LIMIT) as (receiver, store, registry):
        connection = asyncio.run(run(receiver))
        connection.connection_lost(None)
        counts = re.sub(r".*_(sum|created|bucket).*\n", "", generate_latest(registry).decode())
        end = connection.transport.is_closing()
        return (
            written(connection),
            end,
            connection.server_state.total_requests,
            repr(store.batches),
            counts,
        )


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_as_if_its_head_were_not_known(name: str) -> None:
    request = REQUESTS[name]
    known = REQUESTS["one"]

    for stream in ([known, known, request, request, request, known], [request] * 4):
        assert outcome(stream, wait=True) == outcome(stream, Parsing, wait=True)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """The stream in pieces."""
    ends = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(ends)]


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(
        st.sampled_from([*REQUESTS, "one", "one", "two", "two"]), min_size=2, max_size=9
    ),
    places=st.lists(st.integers(0, 10_000), max_size=6),
    wait=st.booleans(),
)
def test_requests_of_all_kinds_in_any_pieces_are_answered_as_if_no_head_were_known(
    names: list[str], places: list[int], wait: bool
) -> None:
    chunks = cut(b"".join(REQUESTS[name] for name in names), places)

    assert outcome(chunks, wait=wait) == outcome(chunks, Parsing, wait=wait)


class Counting(OtlpConnection):
    """Counts what the parser finds."""

    parsed = 0

    def on_message_begin(self) -> None:
        self.parsed += 1
        super().on_message_begin()


def test_a_head_that_came_before_is_not_parsed_again() -> None:
    async def run(receiver: Receiver) -> OtlpConnection:
        connection = connect(receiver, Counting)
        for request in [post(ONE), post(ONE)] + [post(TWO)] * 5:
            await give(connection, request)
        for request in [post(TWO), post(TWO) * 3]:
            await give(connection, request[:-9], request[-9:])
        return connection

    with receiving(Gate(TOKENS), LIMIT) as (receiver, store, _):
        connection = asyncio.run(run(receiver))

    # Not the first: where the bytes of a connection begin is not looked at before it rests.
    assert isinstance(connection, Counting)
    assert connection.parsed == 2
    assert written(connection).count(b"HTTP/1.1 200 OK\r\n") == 11
    assert store.steps == 2 + 2 * 9


def test_a_request_makes_no_task_no_future_and_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    async def run(receiver: Receiver) -> None:
        connection = connect(receiver)
        await give(connection, *[post(ONE)] * 3)
        loop = asyncio.get_running_loop()
        for name in ("create_task", "create_future", "call_later"):
            make = getattr(loop, name)
            monkeypatch.setattr(loop, name, partial(count, name, make))
        await give(connection, *[post(ONE)] * 10)
        assert written(connection).count(b"HTTP/1.1 200 OK\r\n") == 13
        assert made == []

    def count(name: str, make: Callable[..., object], *args: object) -> object:
        made.append(name)
        return make(*args)

    with receiving(Gate(TOKENS), LIMIT) as (receiver, _, _):
        asyncio.run(run(receiver))


@pytest.mark.parametrize(
    "name",
    ["two", "not protobuf", "largest", "too large", "another type", "unknown token", "HEAD"],
)
def test_a_request_leaves_nothing_that_only_a_collection_would_free(name: str) -> None:
    async def run(receiver: Receiver) -> int:
        connection = connect(receiver)
        await give(connection, *[post(ONE)] * 3)
        gc.collect()
        gc.disable()
        try:
            await give(connection, *[REQUESTS[name]] * 10)
            return gc.collect()
        finally:
            gc.enable()

    with receiving(Gate(TOKENS), LIMIT) as (receiver, _, _):
        assert asyncio.run(run(receiver)) == 0


def test_who_sends_is_asked_however_well_the_head_is_known() -> None:
    gate = Gate(TOKENS)

    async def run(receiver: Receiver) -> OtlpConnection:
        connection = connect(receiver, Counting)
        await give(connection, *[post(ONE)] * 3)
        gate.know(TOKENS[1:])
        await give(connection, post(ONE)[:-9], post(ONE)[-9:])
        gate.know(TOKENS)
        await give(connection, post(ONE))
        return connection

    with receiving(gate, LIMIT) as (receiver, store, _):
        connection = asyncio.run(run(receiver))

    assert re.findall(rb"HTTP/1.1 (\d+)", written(connection)) == [b"200"] * 3 + [b"401", b"200"]
    assert isinstance(connection, Counting)
    assert connection.parsed == 2
    assert store.steps == 4


def test_what_a_client_leaves_unfinished_takes_no_room() -> None:
    async def run(receiver: Receiver) -> None:
        connection = connect(receiver)
        await give(connection, post(ONE), post(ONE), post(TWO)[:-9])
        connection.connection_lost(None)
        with closing(receiver.inflow.begin()) as only:
            only.add(2_000_000)  # which more than one may not be

    with receiving(Gate(TOKENS), LIMIT) as (receiver, store, _):
        asyncio.run(run(receiver))

    assert store.steps == 2
