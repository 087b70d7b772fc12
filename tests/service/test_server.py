"""The service as a process, with clients over real sockets."""

import gzip
import shutil
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from tests.service.blocks import make_block, make_request
from tests.service.decode.messages import RESOURCE, STOP, encode, record, stop
from tests.service.process import serve

PROTOBUF = {"content-type": "application/x-protobuf"}


def post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/v1/logs", content=body, headers=PROTOBUF)


def runs(url: str) -> dict[str, Any]:
    return {
        run["run"]: run for run in httpx.get(f"{url}/api/runs").raise_for_status().json()["runs"]
    }


def samples(url: str) -> dict[str, float]:
    """Every sample on ``/metrics`` by its name and labels."""
    lines = httpx.get(f"{url}/metrics").raise_for_status().text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@pytest.mark.parametrize("flags", [(), ("--grpc", "--grpc-port", "0")], ids=["http", "grpc"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(
    tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]
) -> None:
    with serve(tmp_path, *flags) as service, httpx.Client(base_url=service.url) as idle:
        assert idle.get("/healthz").json() == {"status": "ok"}

        service.process.send_signal(number)
        rest, _ = service.process.communicate(timeout=10)

        assert service.process.returncode == 0
        assert rest == ""


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_the_stock_exporter_is_a_client(tmp_path: Path, compression: Compression) -> None:
    with serve(tmp_path) as service:
        exporter = OTLPLogExporter(f"{service.url}/v1/logs", compression=compression)
        provider = LoggerProvider(resource=Resource(dict(RESOURCE)), shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        logger = provider.get_logger("penaltyscope", "1")
        for seq in range(3):
            logger.emit(
                LogRecord(
                    event_name="penaltyscope.pipeline.stop",
                    severity_number=SeverityNumber.INFO,
                    attributes={**STOP, "penaltyscope.seq": seq},
                )
            )
        logger.emit(
            LogRecord(
                event_name="penaltyscope.run.end", attributes={"penaltyscope.status": "finished"}
            )
        )
        provider.shutdown()

        run = runs(service.url)["resnet-kd-7"]
        assert (run["steps"], run["state"]) == (3, "finished")


@pytest.mark.real
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_with_json_is_a_client(tmp_path: Path) -> None:
    body = encode("application/json", stop(), record("penaltyscope.run.start", {}))
    with serve(tmp_path) as service:
        answer = subprocess.run(
            [
                "curl",
                "--silent",
                "--fail",
                *("--data-binary", "@-"),
                *("--header", "Content-Type: application/json"),
                f"{service.url}/v1/logs",
            ],
            input=body,
            capture_output=True,
            check=True,
        )

        assert answer.stdout == b"{}"
        assert runs(service.url)["resnet-kd-7"]["steps"] == 1


def test_the_same_batch_twice_counts_once(tmp_path: Path) -> None:
    body = make_request(make_block(steps=5), run="r")
    with serve(tmp_path) as service:
        first, second = post(service.url, body), post(service.url, body)

        assert (first.status_code, second.status_code) == (200, 200)
        assert (first.content, second.content) == (b"", b"")
        assert runs(service.url)["r"]["steps"] == 5
        metrics = samples(service.url)
        labels = '{run="r",pipeline="distillation",rank="0"}'
        assert metrics[f"penaltyscope_pipeline_steps_total{labels}"] == 5
        assert metrics['penaltyscope_ingest_records_total{event="pipeline.stop"}'] == 10
        assert metrics['penaltyscope_ingest_duplicate_records_total{run="r",rank="0"}'] == 5


def test_killed_and_restarted_it_has_every_acknowledged_step_and_counts_on(tmp_path: Path) -> None:
    diverged = make_block(steps=2, first=10)
    diverged = replace(diverged, value=np.full((2, 2), np.nan))
    with serve(tmp_path) as service:
        for first in range(0, 10, 2):
            assert post(service.url, make_request(make_block(2, first=first), run="r")).is_success
        assert post(service.url, make_request(diverged, run="r")).is_success
        before = counters(samples(service.url))
        service.process.kill()
        service.process.wait()

    with serve(tmp_path) as service:
        assert runs(service.url)["r"]["steps"] == 12
        after = counters(samples(service.url))
        assert after == before
        assert any(value > 0 for name, value in after.items() if "nonfinite_total" in name)

        retried = make_request(make_block(2, first=8), make_block(2, first=12), run="r")
        assert post(service.url, retried).is_success
        assert runs(service.url)["r"]["steps"] == 14


def test_killed_while_several_clients_send_it_loses_nothing_acknowledged(tmp_path: Path) -> None:
    def send_until_it_dies(client: int) -> int:
        for first in range(0, 100_000, 10):
            body = make_request(make_block(10, first=first), run="r", rank=client)
            try:
                assert post(service.url, body).status_code == 200
            except httpx.TransportError:
                return first
            if first == 200:
                underway.release()
        raise AssertionError("the service was not killed")

    clients = 4
    underway = threading.Semaphore(0)
    with serve(tmp_path) as service, ThreadPoolExecutor(clients) as pool:
        sending = [pool.submit(send_until_it_dies, client) for client in range(clients)]
        for _ in range(clients):
            underway.acquire()
        service.process.kill()
        acknowledged = [future.result() for future in sending]

    with serve(tmp_path) as service:
        # What was written but not acknowledged may be there: at most one request of each client.
        steps = runs(service.url)["r"]["steps"]
        assert sum(acknowledged) <= steps <= sum(acknowledged) + 10 * clients

        for client, first in enumerate(acknowledged):
            again = make_block(10, first=first)
            assert post(service.url, make_request(again, run="r", rank=client)).is_success
        assert runs(service.url)["r"]["steps"] == sum(acknowledged) + 10 * clients


def counters(metrics: dict[str, float]) -> dict[str, float]:
    """Those of runs."""
    suffixes = ("_total", "_count", "_bucket", "_sum")
    return {
        name: value
        for name, value in metrics.items()
        if name.partition("{")[0].endswith(suffixes) and 'run="' in name
    }


def test_clients_that_hang_up_or_speak_no_http_are_harmless(tmp_path: Path) -> None:
    head = b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n"
    with serve(tmp_path) as service:
        url = httpx.URL(service.url)
        for sent in (
            b"",
            head,
            head + b"content-length: 1000\r\n\r\n" + bytes(10),
            head + b"transfer-encoding: chunked\r\n\r\nffffffff\r\n" + bytes(10),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        ):
            with socket.create_connection((url.host, url.port)) as connection:
                connection.sendall(sent)

        assert post(service.url, make_request(make_block(), run="r")).status_code == 200
        assert runs(service.url)["r"]["steps"] == 3


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        second = subprocess.run(
            [*service.command, "--port", "0"], capture_output=True, text=True, timeout=60
        )

        assert second.returncode == 2
        assert second.stderr == (
            f"error: cannot open the history in {tmp_path} (--data-dir): {tmp_path} is in use by "
            f"process {service.process.pid}; every service needs a folder of its own.\n"
        )
        assert runs(service.url) == {}


def test_a_body_that_is_too_large_is_refused_while_it_is_still_sent(tmp_path: Path) -> None:
    with serve(tmp_path, "--max-body-bytes", "1024") as service:
        announced = post(service.url, bytes(10_000_000))
        bomb = httpx.post(
            f"{service.url}/v1/logs",
            content=gzip.compress(bytes(10_000_000)),
            headers=PROTOBUF | {"content-encoding": "gzip"},
        )
        chunked = httpx.post(
            f"{service.url}/v1/logs", content=iter([bytes(100_000)] * 100), headers=PROTOBUF
        )

        assert [answer.status_code for answer in (announced, bomb, chunked)] == [413, 413, 413]
        small = encode("application/x-protobuf", record("penaltyscope.run.start", {}))
        assert post(service.url, small).status_code == 200


@pytest.mark.real
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_in_the_metrics(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        assert post(service.url, make_request(make_block(steps=5))).is_success
        text = httpx.get(f"{service.url}/metrics").content

    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)

    assert (checked.stdout, checked.stderr, checked.returncode) == (b"", b"", 0)
