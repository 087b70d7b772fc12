"""The connection against servers that behave, and some that do not, on real sockets."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from penaltyscope.telemetry._environment import Destination
from penaltyscope.telemetry._http import ACCEPTED, Connection, Response
from tests.lib.telemetry.receiver import Answer, receiver

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@dataclass
class Script:
    """Each list is what one connection answers, request by request; then it is closed."""

    connections: Sequence[Sequence[bytes]]
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for every connection that was closed."""


@contextmanager
def scripted(
    *connections: Sequence[bytes], context: ssl.SSLContext | None = None
) -> Iterator[Script]:
    script = Script(connections)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    script.url = f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}/v1/logs"

    def serve() -> None:
        for answers in script.connections:
            connection, _ = listener.accept()
            if context is not None:
                try:
                    connection = context.wrap_socket(connection, server_side=True)
                except ssl.SSLError:  # the client hung up
                    connection.close()
                    continue
            with connection, connection.makefile("rb") as reader:
                for answer in answers:
                    head = b"".join(iter(reader.readline, b"\r\n"))
                    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                    reader.read(length)
                    script.heads.append(head)
                    connection.sendall(answer)
            script.closed.release()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield script
    finally:
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@contextmanager
def connected(url: str, headers: dict[str, str] | None = None) -> Iterator[Connection]:
    connection = Connection(Destination(url=url), headers or {})
    try:
        yield connection
    finally:
        connection.close()


def test_many_posts_travel_over_one_connection() -> None:
    with scripted([OK, OK]) as script, connected(script.url, {"x-rate": "100%"}) as connection:
        for body in (b"one", b""):
            answer = connection.post(body, 5)
            assert answer == Response(200, {"content-length": "2"}, b"hi")
    host = script.url.split("/")[2].encode()
    head = b"POST /v1/logs HTTP/1.1\r\nhost: " + host + b"\r\nx-rate: 100%\r\ncontent-length: "
    assert script.heads == [head + b"3\r\n", head + b"0\r\n"]


def test_answers_without_a_body_follow_each_other() -> None:
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with scripted([empty, empty, OK]) as script, connected(script.url) as connection:
        got = [connection.post(b"", 5).body for _ in range(3)]
        assert got == [b"", b"", b"hi"]


def yes(date: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Date: " + date, *headers, b"Content-Length: 0")
    return b"\r\n".join((*lines, b"", b""))


def test_a_yes_of_another_time_is_a_yes() -> None:
    answers = [yes(date) for date in (b"Sun, 09:59:59", b"Sun, 10:00:00", b"Sun, 10:00:00", b"")]
    with scripted(answers) as script, connected(script.url) as connection:
        assert all(connection.post(b"one", 5) is ACCEPTED for _ in answers)


@pytest.mark.parametrize(
    "other",
    [
        yes(b"Sun\r\nretry-after: 9", b"server: x"),
        yes(b"Sun, 10:00:00 GMT+00", b"server: y"),
        yes(b"Sun\r\nretry-after: 9", b"server: x").replace(b"200 OK", b"503 No"),
        yes(b"Sun, 10:00:00 GMT+00", b"server: x").replace(b"h: 0\r\n\r\n", b"h: 2\r\n\r\nhi"),
    ],
)
def test_an_answer_like_the_yes_before_is_taken_for_what_it_is(other: bytes) -> None:
    with (
        scripted([yes(b"Sun, 09:59:59 GMT+00", b"server: x"), other, OK]) as script,
        connected(script.url) as connection,
        scripted([other]) as alone,
        connected(alone.url) as fresh,
    ):
        assert connection.post(b"one", 5) is ACCEPTED
        assert connection.post(b"two", 5) == fresh.post(b"two", 5)
        assert connection.post(b"three", 5).body == b"hi"


def test_a_date_cannot_hide_that_the_connection_ends() -> None:
    ends = yes(b"xx\r\nConnection: close")
    assert len(ends) == len(yes(b"x" * 21))
    with (
        scripted([yes(b"x" * 21), ends], [OK]) as script,
        connected(script.url) as connection,
    ):
        assert connection.post(b"one", 5) is ACCEPTED
        assert connection.post(b"two", 5).headers["connection"] == "close"
        assert not connection.at_hand
        assert connection.post(b"three", 5).body == b"hi"


def test_a_connection_that_was_closed_while_idle_is_opened_again() -> None:
    with scripted([OK], [OK]) as script, connected(script.url) as connection:
        connection.post(b"one", 5)
        assert script.closed.acquire(timeout=20)
        assert connection.post(b"two", 5).status == 200


def test_a_connection_that_closes_on_the_request_is_tried_once_more() -> None:
    with scripted([OK, b""], [OK]) as script, connected(script.url) as connection:
        connection.post(b"one", 5)
        assert connection.post(b"two", 5).status == 200


def test_a_new_connection_that_closes_is_an_error() -> None:
    with (
        scripted([b""]) as script,
        connected(script.url) as connection,
        pytest.raises(ConnectionError, match="closed the connection before it answered"),
    ):
        connection.post(b"one", 5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, (200, b"hi")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        (
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n",
            (200, b"hi"),
        ),
        (b"HTTP/1.0 503 Busy\r\n\r\nuntil the end", (503, b"until the end")),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (200, b"")),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            (200, b"hi"),
        ),
    ],
)
def test_every_form_of_an_answer_is_read(answer: bytes, expected: tuple[int, bytes]) -> None:
    with scripted([answer], [OK]) as script, connected(script.url) as connection:
        got = connection.post(b"one", 5)
        assert (got.status, got.body) == expected
        assert script.closed.acquire(timeout=20)
        assert connection.post(b"two", 5).body == b"hi", "the next one starts with its own head"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1.1: 'SSH-2.0-OpenSSH_9.2'"),
        (b"HTTP/1.1 OK\r\n\r\n", "not HTTP/1.1: 'OK'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not HTTP/1.1: '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "longer than 1048576 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n", "more than 200 headers"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes, message: str) -> None:
    with (
        scripted([answer]) as script,
        connected(script.url) as connection,
        pytest.raises(ConnectionError, match=message),
    ):
        connection.post(b"one", 5)


def test_an_offered_body_is_answered_when_the_answer_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with connected(url) as connection:
            assert not connection.offer(b"one"), "nobody is connected"
            with pytest.raises(TimeoutError):
                connection.post(b"one", 0.05)
        with connected(url) as connection:
            server.accept()[0].close()
            thread = threading.Thread(target=lambda: connection.post(b"one", 20))
            thread.start()
            there, _ = server.accept()
            with there:
                there.sendall(OK)
                thread.join(20)
                there.settimeout(20)
                there.recv(1 << 16)
                assert connection.offer(b"two")
                assert there.recv(1 << 16).endswith(b"content-length: 3\r\n\r\ntwo")
                for part in (b"HTTP/1.1 100 Continue\r\n\r\n", OK[:9], OK[9:-1]):
                    with pytest.raises(BlockingIOError):
                        connection.answer(0)
                    there.sendall(part)
                with pytest.raises(TimeoutError):
                    connection.answer(0.05)
                with pytest.raises(ConnectionError):
                    connection.answer(0)


def test_what_the_receiver_has_no_room_for_goes_while_the_answer_is_awaited() -> None:
    body = bytes(32 << 20)
    with scripted([OK, OK]) as script, connected(script.url) as connection:
        connection.post(b"one", 5)
        assert connection.offer(body)
        assert connection.answer(20).body == b"hi"
    assert script.heads[1].endswith(b"content-length: %d\r\n" % len(body))


def test_a_connection_that_closes_on_an_offer_has_no_answer() -> None:
    with scripted([OK, b""], [OK]) as script, connected(script.url) as connection:
        connection.post(b"one", 5)
        assert connection.offer(b"two")
        with pytest.raises(ConnectionError):
            connection.answer(20)
        assert not connection.offer(b"two")
        assert connection.post(b"two", 5).status == 200


def test_a_server_that_says_nothing_ends_in_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with connected(url) as connection, pytest.raises(TimeoutError):
            connection.post(b"one", 0.05)


def test_nobody_there_is_an_error() -> None:
    with connected("http://127.0.0.1:9/") as connection, pytest.raises(ConnectionRefusedError):
        connection.post(b"one", 5)


def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(ValueError, match=r"without line breaks, got 'a: b\\r\\nc: d'"):
        Connection(Destination(url="http://here/"), {"a": "b\r\nc: d"})


def test_a_path_is_quoted_and_a_query_kept() -> None:
    with scripted([OK]) as script, connected(script.url + "/a b?c=d") as connection:
        connection.post(b"", 5)
    assert script.heads[0].startswith(b"POST /v1/logs/a%20b?c=d HTTP/1.1\r\n")


def test_a_server_of_the_standard_library_understands_it() -> None:
    with receiver(Answer(429, {"retry-after": "3"})) as there, connected(there.url) as connection:
        assert connection.post(b"", 5).headers["retry-after"] == "3"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_is_checked_against_the_given_one(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request, *name, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with scripted([], [OK], context=context) as script:
        with connected(script.url) as stranger, pytest.raises(ssl.SSLCertVerificationError):
            stranger.post(b"one", 5)
        trusting = Connection(Destination(url=script.url, certificate_file=str(certificate)), {})
        assert trusting.post(b"one", 5).body == b"hi"
        assert not trusting.offer(b"two"), "to send may mean to wait"
        trusting.close()
