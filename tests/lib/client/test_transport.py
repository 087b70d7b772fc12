"""Answers that a real service does not give on purpose, from a socket that does."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from penaltyscope.client import (
    AnswerError,
    Client,
    Health,
    Problem,
    ProblemError,
    Readiness,
    UnreachableError,
)

OK = b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"status":"ok"}'


def answer(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@contextmanager
def answering(*connections: Sequence[bytes]) -> Iterator[str]:
    """A server: for each connection the answers that it gets before it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answers in connections:
                connection, _ = listening.accept()
                with connection, connection.makefile("rb") as reader:
                    for data in answers:
                        while reader.readline() not in (b"\r\n", b""):
                            pass
                        connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_connection_is_used_again() -> None:
    with answering([OK, OK, OK]) as url, Client(url) as client:
        assert [client.health() for _ in range(3)] == [Health(status="ok")] * 3


def test_a_connection_that_was_closed_meanwhile_is_opened_anew() -> None:
    with answering([OK], [OK]) as url, Client(url) as client:
        assert client.health() == client.health() == Health(status="ok")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"status":"ok"}',
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\n{"status":"ok"}\r\n',
        b"220 smtp.example.org ESMTP\r\n",
    ],
)
def test_an_answer_that_ends_too_early_is_none(data: bytes) -> None:
    with answering([data]) as url, Client(url) as client:
        with pytest.raises(UnreachableError, match=url) as caught:
            client.health()
        assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_file_that_ends_too_early_is_not_left_behind(tmp_path: Path, chunked: bool) -> None:
    head = "transfer-encoding: chunked\r\n\r\n5\r\n" if chunked else "content-length: 9\r\n\r\n"
    data = f"HTTP/1.1 200 OK\r\n{head}run,s\r\n".encode()
    (tmp_path / "r.csv").write_text("before")
    with answering([data]) as url, Client(url) as client, pytest.raises(UnreachableError):
        client.export("r", tmp_path / "r.csv")

    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
    assert (tmp_path / "r.csv").read_text() == "before"


@pytest.mark.parametrize(
    "data",
    [
        answer("200 OK", b"<html>"),
        answer("200 OK", b'"ok"'),
        answer("200 OK", b"[]"),
        answer("200 OK", b"{}"),
        answer("302 Found", b'{"detail": "log in"}', "location: /login"),
        answer("502 Bad Gateway", b"<html>"),
        answer("599 ?", b""),
        answer("404 Not Found", b'{"message": "no"}'),
    ],
)
def test_what_is_no_answer_of_the_service_is_said_to_be_none(data: bytes) -> None:
    with answering([data]) as url, Client(url) as client, pytest.raises(AnswerError):
        client.health()


def test_what_a_newer_service_says_beyond_is_passed_over() -> None:
    data = answer("200 OK", b'{"status":"ok","since":1}')
    with answering([data]) as url, Client(url) as client:
        assert client.health() == Health(status="ok")


def test_that_it_is_not_ready_is_an_answer_and_that_it_is_too_busy_to_say_a_problem() -> None:
    reasons = answer(
        "503 Service Unavailable", b'{"status":"unavailable","reasons":["history: full"]}'
    )
    busy = answer("503 Service Unavailable", b'{"detail":"too many"}', "retry-after: 5")
    with answering([reasons, busy]) as url, Client(url) as client:
        assert client.readiness() == Readiness(status="unavailable", reasons=("history: full",))
        with pytest.raises(ProblemError, match=r"too many \(HTTP 503\)") as caught:
            client.readiness()

    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 5)
    assert caught.value.problem == Problem(detail="too many")


def test_a_refusal_of_no_known_kind_is_a_problem_all_the_same() -> None:
    data = answer("499 Client Closed Request", b'{"detail":"gone"}')
    with answering([data]) as url, Client(url) as client, pytest.raises(ProblemError) as caught:
        client.health()

    assert (type(caught.value), caught.value.status) == (ProblemError, 499)


def test_silence_ends_after_the_timeout_and_is_not_asked_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with (
            Client(url, timeout_seconds=0.05) as client,
            pytest.raises(UnreachableError, match="timed out"),
        ):
            client.health()


def test_a_url_may_have_a_path_before_that_of_the_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/watch/"
        with Client(url, timeout_seconds=0.05, token="pst_x") as client:
            with pytest.raises(UnreachableError):
                client.run("a/b")
            connection, _ = listening.accept()
            with connection:
                request = connection.recv(65536)

    assert request.startswith(b"GET /watch/api/runs/a%2Fb HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer pst_x\r\n" in request


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "127.0.0.1:4318"}, "url must be an http"),
        ({"url": "ftp://x"}, "url must be an http"),
        ({"timeout_seconds": 0}, "timeout_seconds must be positive, got 0"),
        ({"token": "a\r\nb"}, "token must be printable ASCII"),
    ],
)
def test_an_argument_that_cannot_be_is_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(**arguments)  # type: ignore[arg-type]


def test_a_format_that_is_none_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    message = "format must be one of csv, jsonl, parquet, got 'txt'"
    with Client("http://127.0.0.1:1") as client, pytest.raises(ValueError, match=message):
        client.export("r", tmp_path / "r.txt")
