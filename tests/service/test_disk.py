"""A disk that is full, or can only be read: told to clients, survived, and over when it is over."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

PROTOBUF = {"content-type": "application/x-protobuf"}


def post(service: Service, first: int) -> httpx.Response:
    body = make_request(make_block(100, first=first), run="r")
    return httpx.post(f"{service.url}/v1/logs", content=body, headers=PROTOBUF, timeout=30)


def fill(service: Service, first: int = 0) -> int:
    """Sends until it is refused; returns how many steps were acknowledged."""
    while (answer := post(service, first)).status_code == 200:
        first += 100
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    return first


def steps(service: Service) -> int:
    (run,) = httpx.get(f"{service.url}/api/runs").json()["runs"]
    metrics = httpx.get(f"{service.url}/metrics").text.splitlines()
    (total,) = [line for line in metrics if line.startswith("penaltyscope_pipeline_steps_total{")]
    assert float(total.split()[-1]) == run["steps"]
    return int(run["steps"])


def why_unready(service: Service) -> str:
    answer = httpx.get(f"{service.url}/readyz", timeout=30)
    assert answer.status_code == 503
    return " ".join(answer.json()["reasons"])


def is_ready(service: Service) -> bool:
    return httpx.get(f"{service.url}/readyz", timeout=30).is_success


def limit_files(service: Service, most_bytes: int | None) -> None:
    """What a service may write to a file from now on; nothing means as much as it could."""
    kind, process = resource.RLIMIT_FSIZE, service.process.pid
    _, hard = resource.prlimit(process, kind)
    resource.prlimit(process, kind, (hard if most_bytes is None else most_bytes, hard))


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; only the super user can make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> bool:
    command = ["mount", "-o", f"remount,{options}", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_file_that_may_not_grow_is_told_and_over_without_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path, max_file_bytes=300_000) as service:
        kept = fill(service)
        assert steps(service) == kept > 0
        assert why_unready(service).startswith("history: ")
        assert httpx.get(f"{service.url}/healthz").is_success

        limit_files(service, None)

        assert post(service, kept).status_code == 200
        assert is_ready(service)
        assert steps(service) == kept + 100
        service.process.kill()
        service.process.wait()
    with serve(tmp_path) as service:
        assert steps(service) == kept + 100


def test_a_full_disk_is_told_and_over_when_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(300_000))
        with serve(disk / "data") as service:
            kept = fill(service)
            assert steps(service) == kept > 0
            assert why_unready(service) == "history: database or disk is full"

            ballast.unlink()

            assert post(service, kept).status_code == 200
            assert is_ready(service)
            assert steps(service) == kept + 100
            service.process.kill()
            service.process.wait()
        with serve(disk / "data") as service:
            assert steps(service) == kept + 100


def test_a_disk_that_becomes_read_only_is_told_and_over_when_it_can_be_written(
    tmp_path: Path,
) -> None:
    with mounted(tmp_path / "disk", "16m") as disk, serve(disk / "data") as service:
        assert post(service, 0).status_code == 200
        # A file that is open for writing keeps a file system writable; this stands for the fault.
        if not remount(disk, "ro"):
            limit_files(service, 1)
        assert post(service, 100).status_code == 503
        assert why_unready(service).startswith("history: ")
        assert steps(service) == 100
        remount(disk, "rw")
        limit_files(service, None)
        assert post(service, 100).status_code == 200
        assert steps(service) == 200


def test_a_start_on_a_read_only_disk_says_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m") as disk:
        with serve(disk / "data") as service:
            command = service.command
        assert remount(disk, "ro")
        refused = subprocess.run(
            [*command, "--port", "0"], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2
        assert "error: cannot open the history in " in refused.stderr
        assert "Read-only file system" in refused.stderr
        remount(disk, "rw")
