"""Tokens in front of a running service, over every transport."""

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import orjson
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from penaltyscope_service.access import add_token
from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
WATCHED = """
import penaltyscope, torch
pipeline = penaltyscope.Pipeline([penaltyscope.Term("l2", penaltyscope.penalties.l2, weight=0.1)])
for run, headers in (("known", {{}}), ("unknown", {{"authorization": "Bearer {nobody}"}})):
    with penaltyscope.watch(pipeline, run=run, headers=headers):
        for _ in range(3):
            pipeline(torch.ones(4, requires_grad=True)).total.backward()
"""
CLOSED = ["/", "/assets/page.js", "/docs", "/openapi.json", "/api/runs", "/metrics", "/not-there"]


@dataclass(frozen=True)
class Guarded:
    """A service with tokens."""

    service: Service
    sender: str
    reader: str
    limited: str
    nobody: str = "pst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    @property
    def url(self) -> str:
        return self.service.url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "tokens.toml"
    sender = add_token(file, "sender", ["ingest"])
    reader = add_token(file, "reader", ["read"])
    limited = add_token(file, "limited", ["ingest"], records_per_second=1)
    flags = ("--tokens-file", str(file), "--grpc", "--grpc-port", "0")
    with serve(folder / "data", *flags) as service:
        yield Guarded(service, sender, reader, limited)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def basic(secret: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(b':' + secret.encode()).decode()}"}


def post(url: str, run: str, headers: dict[str, str], *, steps: int = 3) -> httpx.Response:
    body = make_request(make_block(steps=steps), run=run)
    return httpx.post(f"{url}/v1/logs", content=body, headers=PROTOBUF | headers)


def steps(guarded: Guarded, run: str) -> int:
    answer = httpx.get(f"{guarded.url}/api/runs/{run}", headers=bearer(guarded.reader))
    return int(answer.json()["steps"]) if answer.status_code == 200 else 0


def test_a_sender_sends_and_a_reader_reads(guarded: Guarded) -> None:
    assert post(guarded.url, "r", bearer(guarded.sender)).status_code == 200
    assert steps(guarded, "r") == 3

    denied = post(guarded.url, "r", bearer(guarded.reader))
    assert denied.status_code == 403
    assert Status.FromString(denied.content).code == 7
    denied = httpx.get(f"{guarded.url}/api/runs", headers=bearer(guarded.sender))
    assert denied.status_code == 403
    assert denied.json() == {"detail": "the token 'sender' does not have the scope 'read'."}


@pytest.mark.parametrize("signal", ["logs", "traces", "metrics"])
def test_otlp_without_a_token_is_refused_in_the_request_s_own_encoding(
    guarded: Guarded, signal: str
) -> None:
    for headers in ({}, bearer(guarded.nobody), basic(guarded.sender)):
        binary = httpx.post(f"{guarded.url}/v1/{signal}", content=b"", headers=PROTOBUF | headers)
        text = httpx.post(f"{guarded.url}/v1/{signal}", content=b"{}", headers=JSON | headers)

        assert (binary.status_code, text.status_code) == (401, 401)
        assert binary.headers["www-authenticate"] == 'Bearer realm="penaltyscope"'
        assert Status.FromString(binary.content).code == 16
        assert orjson.loads(text.content)["code"] == 16


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_is_shown_without_a_token(guarded: Guarded, path: str) -> None:
    for headers in ({}, bearer(guarded.nobody), basic(guarded.nobody)):
        answer = httpx.get(guarded.url + path, headers=headers)

        assert answer.status_code == 401
        assert answer.headers.get_list("www-authenticate") == [
            'Bearer realm="penaltyscope"',
            'Basic realm="penaltyscope", charset="UTF-8"',
        ]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert set(answer.json()) == {"detail"}


def test_a_browser_reads_with_the_token_as_its_password(guarded: Guarded) -> None:
    for path in ("/", "/api/runs", "/metrics"):
        assert httpx.get(guarded.url + path, headers=basic(guarded.reader)).status_code == 200


def test_the_openapi_document_says_which_operation_asks_for_a_token(guarded: Guarded) -> None:
    headers = bearer(guarded.reader)
    document = httpx.get(f"{guarded.url}/openapi.json", headers=headers).json()

    asked = {
        path: [name for scheme in operation.get("security", []) for name in scheme]
        for path, operations in document["paths"].items()
        for operation in operations.values()
    }
    assert [path for path, schemes in asked.items() if not schemes] == ["/healthz", "/readyz"]
    assert asked["/v1/logs"] == ["bearer"]
    assert asked["/api/runs/{run}"] == asked["/metrics"] == ["bearer", "basic"]
    assert document["components"]["securitySchemes"].keys() == {"bearer", "basic"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_token(guarded: Guarded, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_the_library_sends_the_token_of_the_environment(guarded: Guarded) -> None:
    job = subprocess.run(
        [sys.executable, "-c", WATCHED.format(nobody=guarded.nobody)],
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": guarded.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{guarded.sender}",
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert steps(guarded, "known") == 3
    assert steps(guarded, "unknown") == 0
    assert "HTTP 401" in job.stderr
    for secret in (guarded.sender, guarded.nobody):
        assert secret not in job.stdout + job.stderr


def test_a_quota_is_answered_429_and_says_when_to_come_back(guarded: Guarded) -> None:
    body = make_request(make_block(steps=60), run="much")
    headers = PROTOBUF | bearer(guarded.limited)
    first, second = (
        httpx.post(f"{guarded.url}/v1/logs", content=body, headers=headers) for _ in range(2)
    )

    assert (first.status_code, second.status_code) == (200, 429)
    # A start and a stop of each step, less the burst of ten seconds.
    assert 100 <= int(second.headers["retry-after"]) <= 110
    status = Status.FromString(second.content)
    assert status.code == 8
    assert status.details[0].TypeName() == "google.rpc.RetryInfo"
    assert post(guarded.url, "r", bearer(guarded.sender)).status_code == 200
    metrics = httpx.get(f"{guarded.url}/metrics", headers=bearer(guarded.reader)).text
    assert 'penaltyscope_ingest_request_duration_seconds_count{code="429"} 1.0' in metrics
    name = "penaltyscope_ingest_throttled_requests_total"
    assert f'{name}{{tenant="",token="limited"}} 1.0' in metrics
    assert metrics.count(f"{name}{{") == 1


def test_grpc_asks_for_the_same_tokens(guarded: Guarded) -> None:
    body = make_request(make_block(steps=3), run="rpc")
    with grpc.insecure_channel(guarded.service.grpc) as channel:
        export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOGS)

        def code(metadata: dict[str, str]) -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as caught:
                export(body, metadata=tuple(metadata.items()), timeout=30)
            error = caught.value
            assert isinstance(error, grpc.Call)
            return error.code()

        assert code({}) is grpc.StatusCode.UNAUTHENTICATED
        assert code(bearer(guarded.nobody)) is grpc.StatusCode.UNAUTHENTICATED
        assert code(bearer(guarded.reader)) is grpc.StatusCode.PERMISSION_DENIED
        assert steps(guarded, "rpc") == 0
        sender = tuple(bearer(guarded.sender).items())
        assert export(body, metadata=sender, timeout=30) == b""

    assert steps(guarded, "rpc") == 3


def test_a_name_of_others_is_misdirected_whatever_is_asked(tmp_path: Path) -> None:
    evil = {"host": "evil.example"}
    with serve(tmp_path, "--host-names", "watch.example.org, Other.example.org") as service:
        for path in ("/", "/api/runs", "/metrics"):
            assert httpx.get(service.url + path, headers=evil).status_code == 421
        refused = post(service.url, "r", evil)
        assert refused.status_code == 421
        assert Status.FromString(refused.content).code == 7

        for name in ("other.example.org", "localhost:1"):
            runs = httpx.get(f"{service.url}/api/runs", headers={"host": name}).json()
            assert runs == {"runs": [], "next": None}


def test_tokens_are_written_nowhere(tmp_path: Path) -> None:
    file, data = tmp_path / "tokens.toml", tmp_path / "data"
    sender = add_token(file, "sender", ["ingest"], records_per_second=1)
    wrong = "pst_wrong-token-of-somebody"
    with serve(data, "--tokens-file", str(file), stderr=subprocess.PIPE) as service:
        for secret in (sender, wrong):
            for headers in (bearer(secret), basic(secret), {"authorization": secret}):
                post(service.url, "r", headers, steps=10)
                httpx.get(f"{service.url}/metrics?token={secret}", headers=headers)
                httpx.post(f"{service.url}/v1/logs", content=b"\xff", headers=PROTOBUF | headers)
                httpx.get(f"{service.url}/{secret}", headers=headers)
        service.process.terminate()
        output, errors = service.process.communicate(timeout=10)

    assert "the token 'sender' sends more than" in errors, "it does log"
    written = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert any(b"distillation" in content for content in written)
    for secret in (sender, wrong):
        assert secret not in output + errors
        assert all(secret.encode() not in content for content in written)
