"""A real service, well and unwell, and what is said of it."""

import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import httpx
import pytest
from typer.testing import CliRunner, Result

from penaltyscope_service.access import add_token
from penaltyscope_service.cli import cli
from penaltyscope_service.doctor import (
    Finding,
    Level,
    Visit,
    examine_folder,
    examine_prometheus,
    examine_service,
)
from penaltyscope_service.settings import HISTORY_FILE
from tests.end_to_end.real_parts import prometheus, wait_for
from tests.service.blocks import make_block, make_request
from tests.service.process import serve

VERSION = version("penaltyscope")
OPEN_CHECKS = {"reachable", "ready", "clock", "tokens", "version", "sending"}
PROTOBUF = {"content-type": "application/x-protobuf"}


@dataclass(frozen=True)
class Guarded:
    url: str
    file: Path
    data: Path
    both: str
    sender: str
    reader: str


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("open")) as service:
        yield service.url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file, data = folder / "tokens.toml", folder / "data"
    secrets = [add_token(file, "both", ["ingest", "read"])]
    secrets += [add_token(file, scope, [scope]) for scope in ("ingest", "read")]
    with serve(data, "--tokens-file", str(file)) as service:
        yield Guarded(service.url, file, data, *secrets)


def examine(
    url: str,
    *,
    token: str | None = None,
    version: str = VERSION,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    return list(examine_service(Visit(url, token=token), version=version, clock=clock))


def levels(findings: Iterable[Finding]) -> dict[str, Level]:
    """The worst of each check."""
    found: dict[str, Level] = {}
    for finding in findings:
        if found.get(finding.check, "ok") == "ok":
            found[finding.check] = finding.level
        assert (finding.level == "ok") == (not finding.remedy), "what is wrong has a remedy"
    return found


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments], env={"NO_COLOR": "1"} | environment)


def test_a_service_that_is_well_has_nothing_but_ok(url: str) -> None:
    assert levels(examine(url)) == dict.fromkeys(OPEN_CHECKS, "ok")


def test_a_service_with_tokens_is_well_with_a_token_that_may_do_both(guarded: Guarded) -> None:
    found = levels(examine(guarded.url, token=guarded.both))

    assert found == dict.fromkeys(OPEN_CHECKS | {"reading"}, "ok")


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (None, {"tokens": "warn", "version": "warn", "sending": "fail"}),
        ("pst_unknown", {"reading": "fail", "version": "warn", "sending": "fail"}),
        ("sender", {"reading": "warn", "version": "warn"}),
        ("reader", {"sending": "warn"}),
    ],
)
def test_a_token_that_does_not_fit_is_told(
    guarded: Guarded, token: str | None, expected: dict[str, Level]
) -> None:
    secret = {"sender": guarded.sender, "reader": guarded.reader}.get(token or "", token)

    found = levels(examine(guarded.url, token=secret))

    assert {check: level for check, level in found.items() if level != "ok"} == expected


def test_nobody_there_is_one_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    [finding] = examine(f"http://127.0.0.1:{port}")

    assert (finding.level, finding.check) == ("fail", "reachable")
    assert "penaltyscope serve" in finding.remedy


def test_somebody_else_there_is_one_failure_and_what_they_say_is_made_harmless() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            [finding] = examine(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()

    assert finding.message.endswith("answers 200, and not as Penaltyscope does")
    assert str(Finding("warn", "x", "a\x1b[2J\nb", "do")) == r"warn  x: a\x1b[2J\nb; do"


@pytest.mark.parametrize(("skew", "where"), [(600.0, "behind"), (-600.0, "ahead of")])
def test_a_clock_that_is_wrong_is_told(url: str, skew: float, where: str) -> None:
    findings = examine(url, clock=lambda: time.time() + skew)

    [clock] = [finding for finding in findings if finding.check == "clock"]
    assert clock.level == "warn"
    # A Date is of whole seconds, and as old as the last tick of a server that is busy.
    assert abs(int(clock.message.split(" s ")[0].split()[-1]) - 600) <= 10
    assert where in clock.message


def test_another_version_is_told(url: str) -> None:
    assert levels(examine(url, version="99.0"))["version"] == "warn"


def test_a_service_that_cannot_write_is_not_ready(tmp_path: Path) -> None:
    with serve(tmp_path, max_file_bytes=400_000) as service:
        first, status = 0, 200
        while status == 200:
            body = make_request(make_block(100, first=first), run="r")
            status = httpx.post(
                f"{service.url}/v1/logs", content=body, headers=PROTOBUF
            ).status_code
            first += 100
        wait_for(
            "the check of the history", lambda: levels(examine(service.url))["ready"] == "fail"
        )


def examined(folder: Path) -> dict[str, Level]:
    return levels(examine_folder(folder, history=HISTORY_FILE, connections=16))


def test_the_folder_of_a_running_service_is_whole(guarded: Guarded) -> None:
    assert examined(guarded.data) == {
        "open files": "ok",
        "folder": "ok",
        "disk": "ok",
        "history": "ok",
    }


def test_a_folder_that_is_not_there_or_empty_is_told(tmp_path: Path) -> None:
    assert examined(tmp_path / "none")["folder"] == "fail"
    assert examined(tmp_path)["history"] == "warn"
    assert not list(tmp_path.iterdir())


def test_a_damaged_history_is_told(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        body = make_request(make_block(steps=2000), run="r")
        assert httpx.post(f"{service.url}/v1/logs", content=body, headers=PROTOBUF).is_success
    file = tmp_path / HISTORY_FILE
    content = bytearray(file.read_bytes())
    assert examined(tmp_path)["history"] == "ok"
    content[4096:] = bytes(len(content) - 4096)
    file.write_bytes(content)

    assert examined(tmp_path)["history"] == "fail"


@pytest.mark.parametrize(
    ("hard", "level"), [(16, "warn"), (17, "ok"), (resource.RLIM_INFINITY, "ok")]
)
def test_too_few_open_files_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, level: Level
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (16, hard))

    assert examined(tmp_path)["open files"] == level


@pytest.mark.real
def test_prometheus_scrapes_it_or_not(url: str, guarded: Guarded, tmp_path: Path) -> None:
    def ask(service: str) -> dict[str, Level]:
        return levels(examine_prometheus(Visit(scraper.url), Visit(service)))

    with prometheus(tmp_path / "open", target=url) as scraper:
        wait_for("a first scrape", lambda: ask(url)["prometheus"] == "ok")
        assert ask(url) == {"prometheus": "ok", "scrapes": "ok"}
        assert ask(url.replace("127.0.0.1", "localhost"))["prometheus"] == "ok"
        assert ask(guarded.url) == {"prometheus": "fail"}
    assert ask(url) == {"prometheus": "fail"}

    with prometheus(tmp_path / "slow", target=guarded.url, interval="1m30s") as scraper:
        wait_for("its targets", lambda: ask(guarded.url).get("scrapes") == "warn")


@pytest.mark.real
def test_a_scrape_that_is_refused_is_told(guarded: Guarded, tmp_path: Path) -> None:
    with prometheus(tmp_path, target=guarded.url) as scraper:

        def fails() -> bool:
            found = list(examine_prometheus(Visit(scraper.url), Visit(guarded.url)))
            return found[0].level == "fail" and "401" in found[0].message

        wait_for("a scrape that fails", fails)


def test_the_command_prints_a_line_for_each_and_ends_with_1_if_one_failed(
    guarded: Guarded, tmp_path: Path
) -> None:
    well = run(
        *("--endpoint", guarded.url, "--data-dir", str(guarded.data)),
        PENALTYSCOPE_TOKEN=guarded.both,
    )
    unwell = run("--endpoint", guarded.url, "--data-dir", str(tmp_path / "none"))

    assert well.exit_code == 0
    assert {line[:6] for line in well.stdout.splitlines()} <= {"ok    ", "warn  "}
    assert guarded.both not in well.output
    assert unwell.exit_code == 1
    assert f"fail  folder: {tmp_path / 'none'} is not there; check --data-dir" in unwell.stdout


def test_an_address_without_a_scheme_is_refused() -> None:
    result = run("--endpoint", "localhost:4318")

    assert result.exit_code == 2
    assert result.stderr.startswith("error: --endpoint: must be an http:// or https:// URL")
