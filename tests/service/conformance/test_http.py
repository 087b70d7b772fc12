"""Every MUST and SHOULD that the OTLP specification says of a server over HTTP.

A row is a rule in the specification's words, what is sent, and what has to come back; it is
tried with every signal and in both encodings, over a real connection.
"""

import gzip
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import httpx
import pytest
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from penaltyscope_service.decode import ContentType
from penaltyscope_service.settings import Settings
from tests.service.compression import COMPRESS
from tests.service.conformance.pressure import holding
from tests.service.conformance.signals import ENCODINGS, LOGS, SIGNALS, Signal, read, write
from tests.service.process import Service

pytestmark = pytest.mark.conformance

LIMIT: Final = 100_000


@dataclass(frozen=True)
class Sent:
    """A request, but for its path."""

    body: bytes
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Got:
    """A response, and how the request was encoded."""

    signal: Signal
    encoding: ContentType
    answer: httpx.Response

    def same_content_type(self) -> None:
        assert self.answer.headers["content-type"] == self.encoding
        assert "content-encoding" not in self.answer.headers

    def full_success(self) -> None:
        assert self.answer.status_code == 200
        self.same_content_type()
        response = read(self.answer.content, self.encoding, self.signal.response())
        assert response == self.signal.response()
        assert not response.HasField("partial_success")

    def partial_success(self) -> None:
        assert self.answer.status_code == 200
        self.same_content_type()
        success = read(self.answer.content, self.encoding, self.signal.response()).partial_success
        assert getattr(success, self.signal.rejected) == 1
        assert len(success.error_message) > 20

    def failure(self, code: int) -> Status:
        assert self.answer.status_code == code
        self.same_content_type()
        status = read(self.answer.content, self.encoding, Status())
        assert status.message
        return status

    def bad_data(self) -> None:
        bad = BadRequest()
        assert self.failure(400).details[0].Unpack(bad)
        assert bad.field_violations[0].description


Send = Callable[[Signal, ContentType], Sent]
Expect = Callable[[Got], object]


def empty(signal: Signal, encoding: ContentType) -> Sent:
    return Sent(write(signal.empty, encoding))


def refused(signal: Signal, encoding: ContentType) -> Sent:
    return Sent(write(signal.refused, encoding))


def garbage(_signal: Signal, _encoding: ContentType) -> Sent:
    return Sent(b"\xff\xff\xff")


def too_large(_signal: Signal, _encoding: ContentType) -> Sent:
    return Sent(bytes(LIMIT + 1))


def accepting_gzip(signal: Signal, encoding: ContentType) -> Sent:
    return Sent(write(signal.empty, encoding), headers={"accept-encoding": "gzip"})


def by_get(_signal: Signal, _encoding: ContentType) -> Sent:
    return Sent(b"", method="GET")


def compressed(coding: str) -> Send:
    def send(signal: Signal, encoding: ContentType) -> Sent:
        compress = COMPRESS["zstd"] if coding == "zstd" else gzip.compress
        return Sent(compress(write(signal.refused, encoding)), headers={"content-encoding": coding})

    return send


def not_gzip(signal: Signal, encoding: ContentType) -> Sent:
    return Sent(write(signal.refused, encoding), headers={"content-encoding": "gzip"})


def unknown_coding(signal: Signal, encoding: ContentType) -> Sent:
    return Sent(write(signal.refused, encoding), headers={"content-encoding": "br"})


RULES: Final[tuple[tuple[str, Send, Expect], ...]] = (
    ("all server components MUST support no compression", refused, Got.partial_success),
    ("all server components MUST support gzip", compressed("gzip"), Got.partial_success),
    (
        "what a server supports beyond that it supports fully",
        compressed("zstd"),
        Got.partial_success,
    ),
    ("an empty request SHOULD be answered with success", empty, Got.full_success),
    ("on success, the server MUST respond with HTTP 200 OK", empty, Got.full_success),
    ("the response body MUST be the signal's ServiceResponse", empty, Got.full_success),
    ("partial_success MUST be left unset on success", empty, Got.full_success),
    ("a partial success MUST be HTTP 200 OK", refused, Got.partial_success),
    (
        "partial_success MUST be initialised, with the count of the rejected",
        refused,
        Got.partial_success,
    ),
    ("error_message SHOULD be populated", refused, Got.partial_success),
    (
        "the response MUST have the Content-Type of the request: success",
        empty,
        Got.same_content_type,
    ),
    (
        "the response MUST have the Content-Type of the request: failure",
        garbage,
        Got.same_content_type,
    ),
    (
        "a response MAY be compressed where the client accepts it: never unasked",
        accepting_gzip,
        Got.full_success,
    ),
    ("data that cannot be decoded MUST be answered with 400", garbage, Got.bad_data),
    ("the details of a 400 SHOULD contain a BadRequest", garbage, Got.bad_data),
    ("a body that is not compressed as it says cannot be decoded", not_gzip, Got.bad_data),
    ("every 4xx MUST have a Status as its body: 413", too_large, lambda got: got.failure(413)),
    ("every 4xx MUST have a Status as its body: 415", unknown_coding, lambda got: got.failure(415)),
    ("telemetry is sent via HTTP POST", by_get, lambda got: got.failure(405)),
    ("Status.message SHOULD contain a message for developers", garbage, Got.bad_data),
    (
        "failures that are permanent SHOULD have a code that is not retried",
        too_large,
        lambda got: got.failure(413),
    ),
)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("signal", SIGNALS, ids=[signal.path for signal in SIGNALS])
@pytest.mark.parametrize(("send", "expect"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_of_every_signal_in_every_encoding(
    http: httpx.Client, send: Send, expect: Expect, signal: Signal, encoding: ContentType
) -> None:
    sent = send(signal, encoding)
    headers = {"content-type": encoding, **sent.headers}

    answer = http.request(sent.method, signal.path, content=sent.body, headers=headers)

    expect(Got(signal, encoding, answer))


CONTENT_TYPES: Final = (
    "{}; charset=utf-8",
    "{};charset=UTF-8",
    "{} ; q=1",
)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("written", CONTENT_TYPES)
def test_a_media_type_may_have_parameters_and_any_case(
    http: httpx.Client, written: str, encoding: ContentType
) -> None:
    for name in (encoding, encoding.upper()):
        headers = {"content-type": written.format(name)}
        answer = http.post("/v1/logs", content=write(LOGS.empty, encoding), headers=headers)
        Got(LOGS, encoding, answer).full_success()


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", ""])
def test_what_is_neither_encoding_is_answered_415_in_the_one_that_people_read(
    http: httpx.Client, content_type: str
) -> None:
    answer = http.post("/v1/logs", content=b"", headers={"content-type": content_type})

    Got(LOGS, "application/json", answer).failure(415)


def test_an_overloaded_server_should_answer_429_or_503_and_may_say_when_to_try_again(
    service: Service, http: httpx.Client
) -> None:
    for encoding in ENCODINGS:
        with holding(service):
            headers = {"content-type": encoding}
            answer = http.post("/v1/logs", content=write(LOGS.refused, encoding), headers=headers)
        Got(LOGS, encoding, answer).failure(503)
        assert int(answer.headers["retry-after"]) >= 1


def test_both_encodings_should_be_accepted_on_the_same_port_and_connection(
    service: Service,
) -> None:
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 0)) as connection:
        stream = connection.makefile("rb")
        for encoding in (*ENCODINGS, *ENCODINGS):
            body = write(LOGS.refused, encoding)
            head = f"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: {encoding}\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = dict(line.split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
            assert headers[b"content-type"].strip() == encoding.encode()
            stream.read(int(headers[b"content-length"]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_may_come_in_chunks(http: httpx.Client, encoding: ContentType) -> None:
    body = gzip.compress(write(LOGS.refused, encoding))
    chunks = iter([body[:1], body[1:20], body[20:]])

    headers = {"content-type": encoding, "content-encoding": "gzip"}
    Got(LOGS, encoding, http.post("/v1/logs", content=chunks, headers=headers)).partial_success()


def test_requests_may_come_over_several_connections_at_once(service: Service) -> None:
    def send(encoding: ContentType) -> int:
        while True:  # the room for bodies is small here
            answer = httpx.post(
                f"{service.url}/v1/logs",
                content=write(LOGS.refused, encoding),
                headers={"content-type": encoding},
            )
            if answer.status_code != 503:
                return answer.status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(send, ENCODINGS * 8)) == {200}


def test_the_default_ports_are_otlps_own() -> None:
    assert (Settings().port, Settings().grpc_port) == (4318, 4317)
