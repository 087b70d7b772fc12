"""`penaltyscope replay` against a receiver on a real socket."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penaltyscope_events import Event, RunIdentity, encode_events, encode_request, spool
from penaltyscope_events.delivery import compressed
from penaltyscope_service.cli import cli
from tests.lib.telemetry.receiver import Answer, receiver


def leave(directory: Path, *requests: list[str], compress: bool = False) -> None:
    """Segments of one dead process, one for each list of events; an event counts as a step."""
    directory.mkdir(parents=True)
    for number, events in enumerate(requests):
        with spool.segment_path(directory, number).open("wb") as file:
            for name in events:
                scope = encode_events([Event(name=name, time_ns=1)])
                body = encode_request(RunIdentity(run_id="r"), [scope])
                body = compressed(body) if compress else body
                file.write(spool.header(body, 1)[0] + body)


def run(directory: Path, endpoint: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["replay", str(directory), "--endpoint", endpoint, *arguments])


def test_everything_is_sent_in_order_and_removed(tmp_path: Path) -> None:
    leave(tmp_path / "b", ["1", "2"], ["3"])
    os.utime(spool.segment_path(tmp_path / "b", 0), (1, 1))
    leave(tmp_path / "a", ["4"], compress=True)
    with receiver() as there:
        done = run(tmp_path, there.url + "/", "--header", "Authorization=Bearer x")
        assert there.events() == ["1", "2", "3", "4"]
        assert {h["authorization"] for h in there.headers} == {"Bearer x"}
        assert set(there.paths) == {"/v1/logs"}
    assert (done.exit_code, done.stdout) == (0, "4 steps sent\n")
    assert list(tmp_path.iterdir()) == []


def test_a_busy_receiver_is_asked_again(tmp_path: Path) -> None:
    leave(tmp_path / "a", ["1", "2"])
    with receiver(Answer(503, {"retry-after": "0"}), Answer(), Answer(429)) as there:
        assert run(tmp_path, there.url).exit_code == 0
        assert there.events() == ["1", "2"]


def test_what_is_refused_is_told_and_not_kept(tmp_path: Path) -> None:
    leave(tmp_path / "a", ["1", "2"])
    with receiver(Answer(400, body=b"bad data")) as there:
        done = run(tmp_path, there.url)
        assert there.events() == ["2"]
    assert done.exit_code == 2
    assert "1 steps were refused, 0 could not be read" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403])
def test_with_a_token_that_is_not_the_right_one_everything_stays(
    tmp_path: Path, status: int
) -> None:
    leave(tmp_path / "a", ["1", "2"])
    with receiver(Answer(status, body=b"who are you")) as there:
        done = run(tmp_path, there.url)
        assert done.exit_code == 2
        assert f"the rest stays in {tmp_path}: HTTP {status}: who are you" in done.stderr
        assert run(tmp_path, there.url).stdout == "2 steps sent\n"


def test_with_nobody_there_everything_stays(tmp_path: Path) -> None:
    leave(tmp_path / "a", ["1", "2"])
    done = run(tmp_path, "http://127.0.0.1:9", "--give-up-seconds", "0")
    assert done.exit_code == 2
    assert f"http://127.0.0.1:9/v1/logs does not take requests, the rest stays in {tmp_path}" in (
        done.stderr
    )
    with receiver() as there:
        assert run(tmp_path, there.url).stdout == "2 steps sent\n"


def test_what_a_living_process_has_is_left_to_it(tmp_path: Path) -> None:
    leave(tmp_path / "a", ["1"])
    claim = spool.lock(tmp_path / "a")
    assert claim is not None
    with receiver() as there:
        done = run(tmp_path, there.url)
        assert there.headers == []
    os.close(claim)
    assert done.stdout == "0 steps sent\n1 processes are alive and send their own\n"


def test_what_was_damaged_is_told(tmp_path: Path) -> None:
    leave(tmp_path / "a", ["1", "2"])
    segment = spool.segment_path(tmp_path / "a", 0)
    segment.write_bytes(segment.read_bytes().replace(b"\x62\x011", b"\x62\x01?"))
    with receiver() as there:
        done = run(tmp_path, there.url)
        assert there.events() == ["2"]
    assert "0 steps were refused, 1 could not be read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--endpoint", "here"], "--endpoint must be an http:// or https:// URL, got 'here'"),
        (["--endpoint", "http://x", "--header", "a"], "--header must be NAME=VALUE, got 'a'"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(cli, ["replay", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
