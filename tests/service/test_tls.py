"""Certificates made for the test, and clients that check them."""

import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import grpc
import httpx
import pytest
import trustme

from penaltyscope_service.access import add_token
from penaltyscope_service.doctor import Visit, examine_service
from penaltyscope_service.tls import Tls
from tests.service.blocks import make_block, make_request
from tests.service.process import serve

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}
WATCHED = """
import penaltyscope, torch
pipeline = penaltyscope.Pipeline([penaltyscope.Term("l2", penaltyscope.penalties.l2, weight=0.1)])
with penaltyscope.watch(pipeline, run="library"):
    for _ in range(3):
        pipeline(torch.ones(4, requires_grad=True)).total.backward()
"""


@dataclass(frozen=True)
class Files:
    """Certificates and keys in a folder."""

    folder: Path

    def __post_init__(self) -> None:
        ours, theirs = trustme.CA(), trustme.CA()
        for name, certificate in (
            ("server", ours.issue_cert("localhost", "127.0.0.1")),
            ("client", theirs.issue_cert("job@example.org")),
            ("stranger", trustme.CA().issue_cert("stranger@example.org")),
        ):
            certificate.private_key_pem.write_to_path(self.path(name, "key"))
            for blob in certificate.cert_chain_pems:
                blob.write_to_path(self.path(name, "pem"), append=True)
        ours.cert_pem.write_to_path(self.path("ca", "pem"))
        theirs.cert_pem.write_to_path(self.path("client-ca", "pem"))

    def path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}.{suffix}"

    def flags(self) -> tuple[str, ...]:
        certificate, key = self.path("server", "pem"), self.path("server", "key")
        return ("--tls-certificate", str(certificate), "--tls-key", str(key))

    def context(self, client: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.path("ca", "pem"))
        if client is not None:
            context.load_cert_chain(self.path(client, "pem"), self.path(client, "key"))
        return context

    def channel(self, target: str, client: str | None = None) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.path("ca", "pem").read_bytes(),
            *((self.path(client, s).read_bytes() for s in ("key", "pem")) if client else ()),
        )
        return grpc.secure_channel(target, credentials)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def token_file(files: Files) -> tuple[Path, str]:
    path = files.folder / "tokens.toml"
    return path, add_token(path, "both", ["ingest", "read"])


def export(channel: grpc.Channel, secret: str) -> bytes:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOGS)
    body = make_request(make_block(steps=3), run="rpc")
    return call(body, metadata=(("authorization", f"Bearer {secret}"),), timeout=30)


def test_every_client_speaks_tls_and_sends_its_token(
    tmp_path: Path, files: Files, token_file: tuple[Path, str]
) -> None:
    path, secret = token_file
    flags = (*files.flags(), "--tokens-file", str(path), "--grpc", "--grpc-port", "0")
    with serve(tmp_path, *flags) as service:
        assert service.url.startswith("https://127.0.0.1:")
        with files.channel(service.grpc) as channel:
            assert export(channel, secret) == b""
        subprocess.run(
            [sys.executable, "-c", WATCHED],
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": service.url,
                "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{secret}",
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(files.path("ca", "pem")),
                "PYTHONPATH": ":".join(sys.path),
            },
            check=True,
        )

        visit = Visit(service.url, token=secret, certificate=str(files.path("ca", "pem")))
        found = list(examine_service(visit, version=version("penaltyscope"), clock=time.time))
        assert [finding for finding in found if finding.level != "ok"] == []
        headers = {"authorization": f"Bearer {secret}"}
        with httpx.Client(verify=files.context(), headers=headers) as client:
            runs = client.get(f"{service.url}/api/runs").json()["runs"]
            assert {run["run"]: run["steps"] for run in runs} == {"rpc": 3, "library": 3}
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http"))
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(service.url)


def test_with_authorities_for_clients_nobody_else_gets_in(tmp_path: Path, files: Files) -> None:
    flags = ("--tls-client-ca", str(files.path("client-ca", "pem")), "--grpc", "--grpc-port", "0")
    body = make_request(make_block(steps=3), run="r")
    with serve(tmp_path, *files.flags(), *flags) as service:
        with httpx.Client(verify=files.context("client")) as client:
            sent = client.post(f"{service.url}/v1/logs", content=body, headers=PROTOBUF)
            assert sent.status_code == 200
        with files.channel(service.grpc, "client") as channel:
            assert export(channel, "") == b""
        for stranger in (None, "stranger"):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{service.url}/healthz", verify=files.context(stranger))
            with files.channel(service.grpc, stranger) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    export(channel, "")
                assert isinstance(caught.value, grpc.Call)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with httpx.Client(verify=files.context("client")) as client:
            runs = client.get(f"{service.url}/api/runs").json()["runs"]
            assert {run["run"] for run in runs} == {"r", "rpc"}


def test_a_key_that_belongs_to_another_certificate_is_an_error(files: Files) -> None:
    certificate, key = files.path("server", "pem"), files.path("client", "key")

    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        Tls(certificate=certificate, key=key).check()
