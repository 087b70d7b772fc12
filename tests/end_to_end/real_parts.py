"""Real processes on free ports of 127.0.0.1, each stopped by its own process handle."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import httpx
import pytest
import yaml

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "alerts"
RULES: Final = ALERTS / "penaltyscope.rules.yml"

PARTS: Final = {
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
    "chromium": ("chromium", "chromium-browser"),
    "node": ("node",),
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
}
"""The commands under which a part may be installed, the one of Debian's package first."""

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0


def require(name: str) -> str:
    """The path of a part's program; where it is missing the test is skipped, or fails if it must.

    ``PENALTYSCOPE_REQUIRE_REAL=1`` makes it fail: a machine that has to test everything sets it.
    """
    for command in PARTS[name]:
        if path := shutil.which(command):
            return path
    return missing(f"{name} is not installed (looked for {' and '.join(PARTS[name])})")


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it on a machine that has to test everything."""
    if os.environ.get("PENALTYSCOPE_REQUIRE_REAL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One running process."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    """Where its output goes, both streams."""

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return httpx.get(self.url + path, params=parameters, timeout=10).raise_for_status()

    def kill(self) -> None:
        """``kill -9``: no chance to write anything."""
        self.process.kill()
        self.process.wait()


class Prometheus(Part):
    """A Prometheus that scrapes the service and evaluates our rules."""

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of every sample of an instant query."""
        result = self.get("/api/v1/query", query=expression).json()["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def firing(self) -> list[dict[str, str]]:
        """The labels of every alert that fires."""
        alerts = self.get("/api/v1/alerts").json()["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def evaluated(self) -> str:
        """When every rule was evaluated last, as text that changes with each evaluation."""
        groups = self.get("/api/v1/rules").json()["data"]["groups"]
        return " ".join(group["lastEvaluation"] for group in groups)


@contextmanager
def service(directory: Path, *, port: int = 0, flags: Sequence[str] = ()) -> Iterator[Part]:
    """``penaltyscope serve`` with its data in ``directory``; the same directory goes on later."""
    program = str(Path(sys.executable).with_name("penaltyscope"))
    command = [program, "serve", "--port", str(port), "--data-dir", str(directory), *flags]
    log = directory.with_name(f"{directory.name}.log")
    log.unlink(missing_ok=True)  # the address of an earlier start

    def address() -> str:
        found = re.search(r"listening on (http://\S+)", log.read_text())
        return found[1] if found else ""

    with _process(command, log) as process:
        yield Part(url=_started(process, log, address), process=process, log=log)


@contextmanager
def prometheus(
    directory: Path,
    *,
    target: str,
    interval: str = "1s",
    rules: str | None = None,
    alertmanager: str | None = None,
) -> Iterator[Prometheus]:
    """Debian's Prometheus.

    Args:
        directory: where its configuration and data go.
        target: address of the service to scrape.
        interval: of scrapes and of evaluations.
        rules: text of the rules; the shipped ones by default.
        alertmanager: address to send alerts to.
    """
    program = require("prometheus")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rules.yml").write_text(rules or RULES.read_text())
    shipped = yaml.safe_load((ALERTS / "prometheus.yml").read_text())
    shipped["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    shipped["global"]["scrape_timeout"] = interval
    shipped["rule_files"] = ["rules.yml"]
    shipped["scrape_configs"][0]["static_configs"][0]["targets"] = [_host(target)]
    managers = [{"targets": [_host(alertmanager)]}] if alertmanager else []
    shipped["alerting"]["alertmanagers"] = [{"static_configs": managers}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(shipped))

    url = f"http://127.0.0.1:{_free_port()}"
    command = [
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={_host(url)}",
    ]
    log = directory / "prometheus.log"
    with _process(command, log) as process:
        _started(process, log, _answers(url + "/-/ready"))
        yield Prometheus(url=url, process=process, log=log)


@contextmanager
def alertmanager(directory: Path, *, config: str) -> Iterator[Part]:
    """Debian's Alertmanager with the text of a configuration, on its own (no cluster)."""
    program = require("alertmanager")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alertmanager.yml").write_text(config)
    url = f"http://127.0.0.1:{_free_port()}"
    command = [
        program,
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address={_host(url)}",
        "--cluster.listen-address=",
    ]
    log = directory / "alertmanager.log"
    with _process(command, log) as process:
        _started(process, log, _answers(url + "/-/ready"))
        yield Part(url=url, process=process, log=log)


def wait_for(what: str, ask: Callable[[], T], *, seconds: float = START_SECONDS) -> T:
    """The first true answer; fails with ``what`` was awaited and the last answer otherwise."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            _fail(f"waited {seconds:g} s for {what}, last got {answer!r}")
        time.sleep(0.05)
    return answer


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], T]) -> T:
    def ask() -> T:
        if process.poll() is not None:
            _fail(f"{process.args!r} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        return ready()

    return wait_for(f"the start of {process.args!r}", ask)


def _answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return httpx.get(url, timeout=2).is_success
        except httpx.TransportError:
            return False

    return ask


def _free_port() -> int:
    """A port that was free a moment ago: neither program can be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _host(url: str) -> str:
    return url.removeprefix("http://").rstrip("/")


def _fail(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)
