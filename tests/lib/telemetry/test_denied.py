"""A token that is not the right one, or not yet: whoever sends is refused, not the steps."""

import logging
import signal
from pathlib import Path

import pytest
import torch

import penaltyscope as ps
from penaltyscope.client import Client
from penaltyscope.telemetry import _receiver
from penaltyscope_service.access import add_token
from tests.end_to_end.real_parts import wait_for
from tests.lib.telemetry.receiver import Answer, receiver
from tests.service.process import serve

REASON = "a token is needed for this, and that one is for another tenant's"
STATUS = b"\x12@" + REASON.encode()
"""Protobuf: its 64 bytes are announced by what would be a printable character."""
DENIED = Answer(401, body=b"the token is not known.")


def pipeline() -> ps.Pipeline:
    return ps.Pipeline([ps.Term("size", ps.l2)])


def train(watched: ps.Pipeline, steps: int) -> None:
    for _ in range(steps):
        watched(torch.ones(2, requires_grad=True)).loss.backward()


@pytest.mark.parametrize("status", [401, 403])
def test_steps_wait_for_a_token_that_is_let_in_and_it_is_said_once(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_receiver, "_DENIED_WAIT_SECONDS", 0.01)
    answers = [Answer(status, body=STATUS)] * 3
    watched = pipeline()
    with caplog.at_level(logging.WARNING), receiver(*answers) as there:
        with ps.watch(watched, endpoint=there.url) as run:
            train(watched, 100)
            assert run.flush(20)
            assert run.dropped_steps == 0
        assert there.steps() == list(range(100))
        url = f"{there.url}/v1/logs"
    assert caplog.messages == [
        f"{url} lets nobody in with this token (HTTP {status}: {REASON}): steps are kept and sent "
        "again every 0.01 s; see OTEL_EXPORTER_OTLP_HEADERS",
        f"{url} is reachable again",
    ]


def test_in_the_meantime_nobody_is_bothered_and_closing_asks_once_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = pipeline()
    with receiver(*[DENIED] * 50) as there:
        run = ps.watch(watched, endpoint=there.url)
        wait_for("the complaint", lambda: "lets nobody in" in caplog.text)
        train(watched, 100)
        run.close()
        assert len(there.headers) == 2
    assert "100 steps were not delivered" in caplog.text


def test_with_a_spool_they_outlive_the_process_and_go_with_the_next_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = pipeline()
    with (
        receiver(*[DENIED] * 50) as there,
        ps.watch(watched, endpoint=there.url, spool=tmp_path) as run,
    ):
        train(watched, 100)
    assert run.dropped_steps == 0
    assert f"100 steps wait in {tmp_path}" in caplog.text

    with receiver() as there, ps.watch(watched, endpoint=there.url, spool=tmp_path) as run:
        assert run.flush(20)
        assert there.steps() == list(range(100))
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_a_running_service_learns_of_lets_all_steps_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_receiver, "_DENIED_WAIT_SECONDS", 0.05)
    file, later = tmp_path / "tokens.toml", tmp_path / "later.toml"
    reader, sender = add_token(file, "reader", ["read"]), add_token(later, "job", ["ingest"])
    watched = pipeline()
    with (
        serve(tmp_path / "data", "--tokens-file", str(file)) as service,
        Client(service.url, token=reader) as client,
        ps.watch(
            watched,
            run="r",
            endpoint=service.url,
            headers={"authorization": f"Bearer {sender}"},
        ) as run,
    ):
        train(watched, 100)
        assert not run.flush(0.5)
        assert list(client.runs()) == []

        file.write_text(file.read_text() + later.read_text())
        service.process.send_signal(signal.SIGHUP)

        wait_for("all steps", lambda: [r.steps for r in client.runs()] == [100])
        assert run.dropped_steps == 0
