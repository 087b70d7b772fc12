"""Clients that are slow, silent or too many, over real sockets."""

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from penaltyscope_service.access import Gate
from penaltyscope_service.ingest import Receiver
from tests.service import connecting
from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

PROTOBUF = {"content-type": "application/x-protobuf"}
GOOD = make_request(make_block(steps=3), run="r")
HEAD = b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
MANY = 10_000


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Waits 0.3 seconds for anything."""
    flags = ("--head-seconds", "0.3", "--body-seconds", "0.3")
    with serve(tmp_path_factory.mktemp("impatient"), *flags) as service:
        yield service


def connect(service: Service) -> socket.socket:
    url = httpx.URL(service.url)
    connection = socket.create_connection((url.host, url.port or 0))
    connection.settimeout(30)
    return connection


def ended(service: Service) -> dict[str, float]:
    """Connections that the service ended, by reason."""
    prefix = "penaltyscope_connections_ended_total{reason="
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    pairs = (line.removeprefix(prefix).split("} ") for line in lines if line.startswith(prefix))
    return {reason.strip('"'): float(count) for reason, count in pairs}


def assert_takes_steps(service: Service) -> None:
    answer = httpx.post(f"{service.url}/v1/logs", content=GOOD, headers=PROTOBUF, timeout=30)
    assert answer.status_code == 200


def read_until_the_end(connection: socket.socket) -> bytes:
    """What comes before the service ends the connection."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "head"),
        (b"POST /v1/logs HTTP/1.1\r\nhost", "head"),
        (HEAD + b"content-length: 100\r\n\r\n0123", "body"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n", "body"),
        (HEAD.replace(b"POST", b"PUT") + b"content-length: 100\r\n\r\n0123", "body"),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /heal", "head"),
    ],
    ids=[
        "nothing",
        "half a head",
        "half a body",
        "half the chunks",
        "refused early",
        "second head",
    ],
)
def test_who_does_not_go_on_is_ended(impatient: Service, sent: bytes, reason: str) -> None:
    before = ended(impatient)

    with connect(impatient) as connection:
        connection.sendall(sent)
        read_until_the_end(connection)

    assert ended(impatient) == before | {reason: before[reason] + 1}
    assert_takes_steps(impatient)


@pytest.mark.parametrize("begun", [b"", HEAD + b"content-length: 1000\r\n\r\n"])
def test_a_byte_now_and_then_does_not_help(impatient: Service, begun: bytes) -> None:
    def trickle(connection: socket.socket) -> None:
        for byte in b"GET / HTTP/1.1\r\nx: " + b"a" * 1_000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)  # what makes it slow

    with connect(impatient) as connection:
        connection.sendall(begun)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            trickle(connection)


def test_a_head_without_an_end_is_ended(impatient: Service) -> None:
    before = ended(impatient)["head"]
    with connect(impatient) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"a" * 100_000_000)
    assert ended(impatient)["head"] == before + 1


def test_who_does_not_read_is_ended(impatient: Service) -> None:
    before = ended(impatient)["reply"]
    with connect(impatient) as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1_000)
        while ended(impatient)["reply"] == before:
            time.sleep(0.05)
    assert_takes_steps(impatient)


def test_who_thinks_between_two_requests_is_left_alone(impatient: Service) -> None:
    before = ended(impatient)
    with connect(impatient) as connection, connection.makefile("rb") as answers:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            for line in answers:
                if line == b"\r\n":
                    break
            assert answers.read(len(b'{"status":"ok"}')) == b'{"status":"ok"}'
            time.sleep(0.6)  # longer than any limit of a request
    assert ended(impatient) == before


def test_who_rests_for_long_is_ended_and_nobody_who_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"

    async def run(receiver: Receiver) -> None:
        nonlocal now
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        connection = connecting.connect(receiver)
        connection.timeout_keep_alive = 75
        for rest, part in ((70, request), (70, request), (20, request[:9]), (70, request[9:])):
            await connecting.give(connection, part)
            now += rest
            await connecting.answered(connection)
            assert not connection.transport.is_closing()
        now += 6
        await connecting.answered(connection)
        assert connection.transport.is_closing()

    with connecting.receiving(Gate(), MANY) as (receiver, _, _):
        asyncio.run(run(receiver))


def test_one_too_many_is_told_so_and_the_others_stay(tmp_path: Path) -> None:
    with serve(tmp_path, "--max-connections", "3") as service, ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=service.url, headers=PROTOBUF))
            for _ in range(4)
        ]
        for client in clients[:3]:
            assert client.get("/healthz").status_code == 200

        refused = clients[3].post("/v1/logs", content=GOOD)

        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.headers["connection"] == "close"
        assert refused.headers["content-type"] == "application/x-protobuf"
        refused = clients[3].get("/api/runs")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json() == {"detail": "too many connections are open; try again later."}
        clients[0].close()
        assert clients[3].post("/v1/logs", content=GOOD).status_code == 200
        assert clients[1].get("/healthz").status_code == 200


@contextmanager
def many_files() -> Iterator[None]:
    """Lets this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 1_000:
        pytest.skip(f"only {hard} files may be open here (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 1_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections_leave_room_for_others(tmp_path: Path) -> None:
    flags = ("--head-seconds", "250", "--body-seconds", "250")
    with many_files(), serve(tmp_path, *flags) as service, ExitStack() as stack:
        starts = (b"", b"POST /v1/logs HT", HEAD + b"content-length: 100\r\n\r\n0123")
        for number in range(MANY):
            connection = stack.enter_context(connect(service))
            connection.sendall(starts[number % len(starts)])

        assert_takes_steps(service)
        assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200
        assert sum(ended(service).values()) == 0
        files = Path(f"/proc/{service.process.pid}/fd")
        if files.exists():
            assert len(list(files.iterdir())) > MANY
