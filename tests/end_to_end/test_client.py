"""The client of the library reads what a real service was sent."""

import math
import pickle
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from penaltyscope.client import (
    ArgumentError,
    Client,
    DeniedError,
    Finding,
    Format,
    KindCounts,
    RunException,
    UnknownRunError,
    UnreachableError,
    _client,
)
from penaltyscope_events import Event, RunIdentity, encode_events, encode_request
from penaltyscope_service.access import add_token
from tests.service.blocks import make_block, make_request
from tests.service.process import serve

BLOCK = replace(
    make_block(steps=3, terms=("a", "b")),
    value=np.array([[1.0, 2.0], [np.nan, 3.0], [np.inf, -np.inf]]),
)
ODD = "a/b ü?#&"


@dataclass(frozen=True)
class Fed:
    """A service that has runs, and its tokens."""

    url: str
    sender: str
    reader: str
    ca_file: Path

    def client(self) -> Client:
        return Client(self.url, token=self.reader, ca_file=self.ca_file)


def trusting(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    folder = tmp_path_factory.mktemp("client")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    tokens = folder / "tokens.toml"
    sender, reader = add_token(tokens, "job", ["ingest"]), add_token(tokens, "me", ["read"])
    flags = (
        *("--tls-certificate", str(folder / "certificate.pem")),
        *("--tls-key", str(folder / "key.pem")),
        *("--tokens-file", str(tokens)),
        *("--lost-after-seconds", "3600", "--stall-floor-seconds", "3600"),
    )
    end = {
        "penaltyscope.status": "failed",
        "exception.type": "ValueError",
        "exception.message": "no",
    }
    bodies = [
        make_request(make_block(steps=200), run="healthy"),
        make_request(BLOCK, run=ODD),
        make_request(make_block(), run="failed"),
        encode_request(
            RunIdentity(run_id="failed"),
            [encode_events([Event(name="penaltyscope.run.end", time_ns=1, attributes=end)])],
        ),
    ]
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {sender}"}
    with serve(folder / "data", *flags) as service:
        with httpx.Client(verify=trusting(folder / "ca.pem")) as http:
            for body in bodies:
                sent = http.post(f"{service.url}/v1/logs", content=body, headers=headers)
                assert sent.status_code == 200
        yield Fed(service.url, sender, reader, folder / "ca.pem")


def test_runs_come_newest_first_whatever_the_size_of_a_page(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fed.client() as client:
        for size in (1000, 2, 1):
            monkeypatch.setattr(_client, "_PAGE_RUNS", size)
            assert [run.run for run in client.runs()] == ["failed", ODD, "healthy"]
            assert [run.run for run in client.runs(limit=2)] == ["failed", ODD]
            assert [run.run for run in client.runs(after="failed", limit=1)] == [ODD]
            running = client.runs(state=["running", "stalled"])
            assert [run.run for run in running] == [ODD, "healthy"]
        (failed,) = client.runs(state="failed")

    assert failed.exception == RunException(type="ValueError", message="no")
    assert failed.first_nonfinite is None
    assert failed.ended_at is not None
    assert failed.pipelines == ("distillation",)


def test_numbers_that_are_not_finite_are_floats(fed: Fed) -> None:
    with fed.client() as client:
        detail = client.run(ODD)
        series = client.series(ODD, term="a", quantity="value")

    (pipeline,) = detail.pipelines
    assert (detail.run, detail.steps, detail.nonfinite_steps) == (ODD, 3, 2)
    assert [term.value for term in pipeline.terms] == [math.inf, -math.inf]
    assert pipeline.terms[0].nonfinite.value == KindCounts(nan=1, inf=1)
    assert detail.first_nonfinite is not None
    assert (detail.first_nonfinite.term, detail.first_nonfinite.kind) == ("a", "nan")
    (line,) = series.series
    assert line.step == tuple(BLOCK.step.tolist())
    np.testing.assert_array_equal(line.value, BLOCK.value[:, 0])
    assert series.nonfinite[0] == Finding(
        step=int(BLOCK.step[1]), term="a", stage="value", kind="nan"
    )


def test_a_series_is_of_the_steps_and_points_that_were_asked_for(fed: Fed) -> None:
    with fed.client() as client:
        series = client.series("healthy", from_step=500, to_step=1500, points=10)
        chosen = client.series(
            "healthy",
            pipeline="distillation",
            rank=0,
            term=("distill", "base"),
            quantity=("value", "gradient_norm"),
        )

    assert (series.first_step, series.last_step, series.steps) == (500, 1500, 101)
    assert all(2 <= len(line.step) <= 10 for line in series.series)
    assert {(line.term, line.quantity) for line in chosen.series} == {
        ("distill", "value"),
        ("distill", "gradient_norm"),
        ("base", "value"),
    }


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_export_is_the_file_that_the_service_sends(
    fed: Fed, tmp_path: Path, kind: Format
) -> None:
    with fed.client() as client:
        client.export("healthy", tmp_path / f"run.{kind}")
        client.export("healthy", tmp_path / "other", format=kind)
    with httpx.Client(verify=trusting(fed.ca_file)) as http:
        answer = http.get(
            f"{fed.url}/api/runs/healthy/export?format={kind}",
            headers={"authorization": f"Bearer {fed.reader}"},
        )

    assert (tmp_path / f"run.{kind}").read_bytes() == answer.content
    assert (tmp_path / "other").read_bytes() == answer.content
    assert len(list(tmp_path.iterdir())) == 2


def test_an_operator_s_questions_are_answered(fed: Fed) -> None:
    with fed.client() as client:
        assert client.health().status == "ok"
        ready = client.readiness()
        names = {family.name for family in text_string_to_metric_families(client.metrics())}

    assert (ready.status, ready.reasons) == ("ok", ())
    assert "penaltyscope_run_info" in names


def test_a_refusal_carries_what_the_service_says(fed: Fed, tmp_path: Path) -> None:
    with fed.client() as client:
        with pytest.raises(UnknownRunError, match="run 'gone/x' is not known"):
            client.run("gone/x")
        with pytest.raises(UnknownRunError):
            client.export("gone", tmp_path / "gone.csv")
        with pytest.raises(ArgumentError) as caught:
            client.series("healthy", points=3)
        assert isinstance(caught.value, ValueError)
        message = "points: input should be greater than or equal to 4, got '3'."
        assert (caught.value.status, caught.value.problem.detail) == (422, message)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.problem) == (str(caught.value), caught.value.problem)
        assert client.health().status == "ok", "the connection still serves"

    assert list(tmp_path.iterdir()) == []


def test_who_has_no_right_token_is_denied(fed: Fed) -> None:
    for token, status in ((None, 401), ("pst_unknown", 401), (fed.sender, 403)):
        with Client(fed.url, token=token, ca_file=fed.ca_file) as client:
            with pytest.raises(DeniedError) as caught:
                next(client.runs())
            assert caught.value.status == status
            assert client.health().status == "ok"


def test_a_service_that_cannot_be_trusted_is_not_asked(fed: Fed) -> None:
    with (
        Client(fed.url, token=fed.reader) as client,
        pytest.raises(UnreachableError, match="certificate verify failed"),
    ):
        client.health()


def test_the_example_tells_which_run_went_wrong_and_what_led_up_to_it(fed: Fed) -> None:
    script = Path(__file__).parents[2] / "examples" / "first_findings.py"
    told = subprocess.run(
        [sys.executable, script, fed.url, "--token", fed.reader, "--ca-file", fed.ca_file],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert told == (
        f"{ODD} (running): nan in the value of a, step 10, rank 0; 2 of 3 evaluations\n"
        "    step 0: 1\n"
        "    step 10: nan\n"
    )


def test_threads_share_a_client(fed: Fed) -> None:
    def steps(_: int) -> int:
        return client.run("healthy").steps + sum(run.steps for run in client.runs())

    with fed.client() as client, ThreadPoolExecutor(6) as pool:
        assert set(pool.map(steps, range(60))) == {200 + sum(run.steps for run in client.runs())}
