"""Servers to be measured, each a process of its own, and what they have used so far."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running process that listens."""

    pid: int
    port: int
    directory: Path
    """Where it keeps its data."""

    def cpu_seconds(self) -> float:
        """User and system time so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES


@contextmanager
def penaltyscope(directory: Path, *flags: str) -> Iterator[Server]:
    """The service, with dedupe and durable history as always."""
    script = "from penaltyscope_service.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", "--data-dir", str(directory), *flags]
    with _run(command, directory, "/readyz") as server:
        yield server


@contextmanager
def peer(name: str, directory: Path) -> Iterator[Server | None]:
    """Another product; nothing where it is not installed."""
    port = free_port()
    listen = f"127.0.0.1:{port}"
    flags = {
        "prometheus-pushgateway": [f"--web.listen-address={listen}"],
        "prometheus": [
            f"--web.listen-address={listen}",
            f"--storage.tsdb.path={directory}",
            f"--config.file={directory / 'prometheus.yml'}",
            "--web.enable-remote-write-receiver",
        ],
        "victoria-metrics": [f"-httpListenAddr={listen}", f"-storageDataPath={directory}"],
    }[name]
    program = shutil.which(name)
    if program is None:
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text("{}\n")
    ready = "/health" if name == "victoria-metrics" else "/-/ready"
    with _run([program, *flags], directory, ready, port) as server:
        yield server


@contextmanager
def _run(
    command: list[str], directory: Path, ready: str, port: int | None = None
) -> Iterator[Server]:
    taken = free_port() if port is None else port
    directory.mkdir(parents=True, exist_ok=True)
    command = command if port is not None else [*command, "--port", str(taken)]
    with (directory / "output.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await(process, f"http://127.0.0.1:{taken}{ready}", directory / "output.log")
        yield Server(process.pid, taken, directory)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urlopen(address, timeout=2):  # an error while it is not ready
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
