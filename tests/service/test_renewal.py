"""Files that change under a running service."""

import logging
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import trustme

from penaltyscope_service.access import add_token
from penaltyscope_service.renewal import Renewal
from tests.end_to_end.real_parts import wait_for
from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
BODY = make_request(make_block(steps=3), run="r")


@dataclass(frozen=True)
class Part:
    """A running service and its log."""

    service: Service
    log: Path

    def hang_up(self) -> None:
        self.service.process.send_signal(signal.SIGHUP)

    def hang_up_until(self, text: str) -> None:
        """Waits for the log to say it once more."""
        before = self.said(text)
        self.hang_up()
        wait_for(text, lambda: self.said(text) > before)

    def said(self, text: str) -> int:
        return self.log.read_text().count(text)


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[Part]:
    log = folder / "log"
    with log.open("wb") as file, serve(folder / "data", *flags, stderr=file.fileno()) as service:
        yield Part(service, log)


def status(url: str, secret: str) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{url}/api/runs", headers=headers).status_code


def test_a_token_comes_and_another_goes_while_the_service_runs(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    first = add_token(file, "first", ["read"])
    with running(tmp_path, "--tokens-file", str(file)) as part:
        url = part.service.url
        with httpx.Client(headers={"authorization": f"Bearer {first}"}) as kept:
            assert kept.get(f"{url}/api/runs").status_code == 200
            second = add_token(file, "second", ["read"])
            part.hang_up()
            wait_for("the second token", lambda: status(url, second) == 200)
            assert kept.get(f"{url}/api/runs").status_code == 200

            tables = file.read_text().split("[[token]]")
            file.write_text(f"[[token]]{tables[2]}")
            part.hang_up()
            # Also on a connection that was let in before.
            wait_for("the end", lambda: kept.get(f"{url}/api/runs").status_code == 401)
            assert status(url, second) == 200


def test_a_file_that_changes_is_read_again_without_a_signal(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    add_token(file, "first", ["read"])
    with running(tmp_path, "--tokens-file", str(file)) as part:
        second = add_token(file, "second", ["read"])

        wait_for("the second token", lambda: status(part.service.url, second) == 200)
        assert part.said("INFO penaltyscope_service.renewal tokens: read again") == 1


def test_a_file_of_tokens_that_is_broken_changes_nothing_and_is_told(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    secret = add_token(file, "first", ["read"])
    with running(tmp_path, "--tokens-file", str(file)) as part:
        for content in ("", "[[token", f"token = '{secret}'", "[[token]]\nname = 'x'", None):
            if content is None:
                file.unlink()
            else:
                file.write_text(content)

            part.hang_up_until("tokens cannot be used")

            assert status(part.service.url, secret) == 200, content
            assert status(part.service.url, "pst_other") == 401, content
        assert secret not in part.log.read_text()


class Authority:
    """Makes certificates in two files."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.ca, self.certificate, self.key = (folder / f"{n}.pem" for n in ("ca", "crt", "key"))
        self._ca.cert_pem.write_to_path(self.ca)
        self.issue()

    def issue(self) -> bytes:
        """Puts a new certificate and its key into the files, and returns it."""
        issued = self._ca.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))

    def shown(self, host: str, port: int) -> bytes:
        """The certificate that a port shows now."""
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection((host, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return found


def ports(service: Service) -> tuple[tuple[str, int], tuple[str, int]]:
    """Host and port of HTTP and of gRPC."""
    parts = urlsplit(service.url)
    host, _, port = service.grpc.rpartition(":")
    assert parts.hostname is not None
    assert parts.port is not None
    return (parts.hostname, parts.port), (host, int(port))


def test_a_new_certificate_is_shown_and_open_connections_stay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    with running(tmp_path, *authority.flags, "--grpc", "--grpc-port", "0") as part:
        http, rpc = ports(part.service)
        context = ssl.create_default_context(cafile=authority.ca)
        with (
            httpx.Client(verify=context) as kept,
            grpc.secure_channel(part.service.grpc, credentials) as channel,
        ):
            export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOGS)
            assert export(BODY, timeout=30) == b""
            old = authority.shown(*http)
            assert authority.shown(*rpc) == old
            assert kept.get(f"{part.service.url}/healthz").status_code == 200

            new = authority.issue()
            part.hang_up()

            wait_for("the new certificate", lambda: authority.shown(*http) == new)
            assert authority.shown(*rpc) == new
            assert kept.get(f"{part.service.url}/healthz").status_code == 200
            assert export(BODY, timeout=30) == b""


def test_a_certificate_that_is_broken_changes_nothing_and_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with running(tmp_path, *authority.flags, "--grpc", "--grpc-port", "0") as part:
        http, rpc = ports(part.service)
        before = authority.shown(*http)
        authority.certificate.write_text("-----BEGIN CERTIFICATE-----")
        complaint = f"{authority.certificate} cannot be used"
        part.hang_up_until(complaint)
        assert authority.shown(*http) == authority.shown(*rpc) == before
        assert part.said(f"{authority.certificate} (gRPC) cannot be used") == 1

        authority.issue()
        trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(authority.key)
        part.hang_up_until(complaint)
        assert authority.shown(*http) == authority.shown(*rpc) == before

        mended = authority.issue()
        part.hang_up()
        wait_for("the mended one", lambda: authority.shown(*http) == mended)
        assert authority.shown(*rpc) == mended


def test_what_is_broken_is_told_once_until_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, read = tmp_path / "file", list[str]()
    file.write_text("0")

    def load() -> None:
        text = file.read_text()
        int(text)
        read.append(text)

    renewal = Renewal("numbers", [file], load)
    with caplog.at_level(logging.INFO):
        renewal.look()
        assert (read, caplog.messages) == ([], [])
        file.write_text("no")
        for _ in range(3):
            renewal.look()
        assert caplog.messages == [
            "numbers cannot be used, those from before stay: "
            "invalid literal for int() with base 10: 'no'"
        ]
        file.write_text("11")
        renewal.look()
        renewal.look()
        renewal.now()

    assert read == ["11", "11"]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    (tmp_path / "new").write_text("1")
    link, read = tmp_path / "link", list[str]()
    link.symlink_to(tmp_path / "old")
    renewal = Renewal("secrets", [link], lambda: read.append(link.read_text()))

    other = tmp_path / "other"
    other.symlink_to(tmp_path / "new")
    other.replace(link)
    renewal.look()

    assert read == ["1"]
