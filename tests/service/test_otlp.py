"""OTLP and everything else on one connection, over real sockets."""

import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO

import httpx
import pytest

from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

GOOD = make_request(make_block(steps=3), run="r")
LIMIT = 100_000
HEAD = b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
POST = HEAD + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
HEALTHY = b'{"status":"ok"}'
REFUSED = HEAD.replace(b"x-protobuf", b"x-other") + b"content-length: 4\r\n\r\nbody"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    flags = ("--body-seconds", "2", "--max-body-bytes", str(LIMIT))
    with serve(tmp_path_factory.mktemp("otlp"), *flags) as service:
        yield service


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def read(stream: BinaryIO, *, with_body: bool = True) -> Answer:
    """The next response."""
    status = int(stream.readline().split()[1])
    lines = iter(stream.readline, b"\r\n")
    pairs = (line.decode().rstrip().split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    length = int(headers.get("content-length", "0")) if with_body else 0
    return Answer(status, headers, stream.read(length))


class Connection:
    """Says what a test wants it to say."""

    def __init__(self, service: Service) -> None:
        url = httpx.URL(service.url)
        self.socket = socket.create_connection((url.host, url.port or 0))
        self.socket.settimeout(30)
        self.stream = self.socket.makefile("rb")

    def read(self, number: int) -> list[Answer]:
        return [read(self.stream) for _ in range(number)]


@pytest.fixture
def connection(service: Service) -> Iterator[Connection]:
    connection = Connection(service)
    with connection.socket, connection.stream:
        yield connection


def test_requests_of_both_kinds_follow_each_other(connection: Connection) -> None:
    for _ in range(3):
        connection.socket.sendall(POST)
        (kept,) = connection.read(1)
        connection.socket.sendall(GET)
        (healthy,) = connection.read(1)
        assert (kept.status, kept.body) == (200, b"")
        assert kept.headers["content-type"] == "application/x-protobuf"
        assert kept.headers["x-content-type-options"] == "nosniff"
        assert kept.headers.keys() >= {"date"}
        assert (healthy.status, healthy.body) == (200, HEALTHY)


def test_requests_sent_at_once_are_answered_in_their_order(connection: Connection) -> None:
    connection.socket.sendall((POST + GET + REFUSED + GET + GET + POST + POST) * 5)

    answers = connection.read(35)

    assert [answer.status for answer in answers] == [200, 200, 415, 200, 200, 200, 200] * 5
    healthy = [False, True, False, True, True, False, False] * 5
    assert [answer.body == HEALTHY for answer in answers] == healthy


def test_a_long_line_of_refusals_behind_another_request_is_worked_off(
    connection: Connection,
) -> None:
    connection.socket.sendall(GET + REFUSED * 1_200)

    answers = connection.read(1_201)

    assert [answer.status for answer in answers] == [200, *[415] * 1_200]


def test_every_byte_on_its_own_makes_no_difference(connection: Connection) -> None:
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in POST + GET + POST:
        connection.socket.sendall(bytes([byte]))

    assert [answer.status for answer in connection.read(3)] == [200, 200, 200]


def test_a_body_in_chunks_is_one_body(connection: Connection) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, GOOD[i : i + 1]) for i in range(len(GOOD)))
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    connection.socket.sendall(chunked + POST)

    assert [answer.status for answer in connection.read(2)] == [200, 200]


@pytest.mark.parametrize("path", [b"/v1/logs?x=1", b"/v1/l%6fgs", b"http://localhost/v1/logs"])
def test_a_path_may_be_written_in_other_ways(connection: Connection, path: bytes) -> None:
    connection.socket.sendall(POST.replace(b"/v1/logs", path))

    (answer,) = connection.read(1)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize("path", [b"/v1/logs/", b"/v1/log", b"/V1/LOGS", b"/", b"/v1/logs%2f"])
def test_other_paths_are_none_of_otlp(connection: Connection, path: bytes) -> None:
    connection.socket.sendall(POST.replace(b"/v1/logs", path))

    (answer,) = connection.read(1)

    assert answer.status in (404, 405)
    assert answer.headers["content-type"] == "application/json"


def test_who_asks_first_is_invited_to_send(connection: Connection) -> None:
    head, body = POST.split(b"\r\n\r\n", 1)
    connection.socket.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert read(connection.stream).status == 100

    connection.socket.sendall(body)

    assert read(connection.stream).status == 200


def test_who_asks_first_and_would_be_refused_is_refused_at_once(connection: Connection) -> None:
    connection.socket.sendall(
        HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % (LIMIT + 1)
    )

    assert read(connection.stream).status == 413


def test_who_asks_first_behind_another_request_is_invited_after_its_answer(
    connection: Connection,
) -> None:
    head, body = POST.split(b"\r\n\r\n", 1)
    connection.socket.sendall(GET + head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert read(connection.stream).body == HEALTHY
    assert read(connection.stream).status == 100

    connection.socket.sendall(body)

    assert read(connection.stream).status == 200


def test_after_a_refusal_the_rest_of_its_body_is_passed_over(connection: Connection) -> None:
    announced = HEAD + b"content-length: %d\r\n\r\n" % (2 * LIMIT)
    connection.socket.sendall(announced)
    assert read(connection.stream).status == 413

    connection.socket.sendall(bytes(2 * LIMIT) + POST + GET)

    assert [answer.status for answer in connection.read(2)] == [200, 200]


def test_a_body_that_grows_too_large_is_refused_before_its_end(connection: Connection) -> None:
    connection.socket.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    connection.socket.sendall(b"%x\r\n%s\r\n" % (LIMIT + 1, bytes(LIMIT + 1)))
    assert read(connection.stream).status == 413

    connection.socket.sendall(b"5\r\nafter\r\n0\r\n\r\n" + POST)

    assert read(connection.stream).status == 200


def test_a_head_is_answered_without_a_body(connection: Connection) -> None:
    connection.socket.sendall(b"HEAD /v1/logs HTTP/1.1\r\nhost: localhost\r\n\r\n")
    answer = read(connection.stream, with_body=False)
    connection.socket.sendall(POST)

    assert answer.status == 405
    assert int(answer.headers["content-length"]) > 0
    assert read(connection.stream).status == 200


@pytest.mark.parametrize(
    "last",
    [
        POST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        POST.replace(b"host:", b"connection: close\r\nhost:"),
        REFUSED.replace(b"host:", b"connection: close\r\nhost:"),
    ],
    ids=["1.0", "close", "refused"],
)
def test_who_wants_no_further_request_is_told_so(connection: Connection, last: bytes) -> None:
    connection.socket.sendall(last)

    assert read(connection.stream).headers["connection"] == "close"
    assert connection.stream.read() == b""


def test_who_does_not_read_its_answers_is_ended(service: Service) -> None:
    connection = Connection(service)
    sent = REFUSED * 1_000
    endless = (connection.socket.send(sent) for _ in count())
    with connection.socket, connection.stream, pytest.raises(OSError, match=r"reset|[Bb]roken"):
        deque(endless, maxlen=0)


def test_what_is_no_http_ends_the_connection(connection: Connection) -> None:
    connection.socket.sendall(POST + b"\x00\x01\x02\r\n\r\n")

    statuses = [int(line.split()[1]) for line in connection.stream if line.startswith(b"HTTP/1.1")]

    assert 400 in statuses
