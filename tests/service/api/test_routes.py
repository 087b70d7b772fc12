"""The JSON API of a whole service that was fed over OTLP."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from penaltyscope_events import Event, RunIdentity, TermFlag, encode_events, encode_request
from penaltyscope_service.app import create_service
from penaltyscope_service.settings import Settings
from tests.service.blocks import make_block, make_request
from tests.service.client import Client, ServiceClient

PROTOBUF = "application/x-protobuf"
NOW = 1_700_000_100.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ServiceClient(create_service(Settings(data_dir=tmp_path), clock=lambda: NOW)) as client:
        yield client


def send(client: Client, body: bytes) -> None:
    response = client.post("/v1/logs", body, content_type=PROTOBUF)
    assert (response.status_code, response.content) == (200, b"")


def get(client: Client, path: str) -> Any:  # noqa: ANN401  # JSON
    response = client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_without_runs_the_list_is_empty(client: Client) -> None:
    assert get(client, "/api/runs") == {"runs": [], "next": None}


def test_a_run_is_told_in_full(client: Client) -> None:
    send(client, make_request(make_block(steps=3), run="healthy"))

    (run,) = get(client, "/api/runs")["runs"]

    assert run == {
        "run": "healthy",
        "state": "running",
        "tags": {},
        "world_size": 1,
        "attempt": 0,
        "ranks": [0],
        "started_at": NOW,
        "last_received_at": NOW,
        "ended_at": None,
        "last_step": 20,
        "steps": 3,
        "step_interval_seconds": run["step_interval_seconds"],
        "nonfinite_steps": 0,
        "first_nonfinite": None,
        "exception": None,
        "pipelines": ["distillation"],
    }


def test_runs_come_page_by_page_and_by_state(client: Client) -> None:
    end = Event(
        name="penaltyscope.run.end", time_ns=1, attributes={"penaltyscope.status": "finished"}
    )
    for run in ("a", "b/b", "c", "d"):
        send(client, make_request(make_block(), run=run))
    for run in ("a", "c"):
        send(client, encode_request(RunIdentity(run_id=run), [encode_events([end])]))

    def page(query: str) -> tuple[list[str], str | None]:
        answer = get(client, f"/api/runs?{query}")
        return [run["run"] for run in answer["runs"]], answer["next"]

    assert page("limit=3") == (["d", "c", "b/b"], "b/b")
    assert page("limit=3&after=b%2Fb") == (["a"], None)
    assert page("limit=4") == (["d", "c", "b/b", "a"], None)
    assert page("state=finished&limit=1") == (["c"], "c")
    assert page("state=finished&limit=1&after=c") == (["a"], None)
    assert page("state=finished&state=running") == (["d", "c", "b/b", "a"], None)
    assert page("state=failed") == ([], None)
    assert page("after=a") == ([], None)
    assert client.get("/api/runs?after=gone").json() == {"detail": "run 'gone' is not known"}
    assert client.get("/api/runs?limit=0").status_code == 422


def test_details_hold_the_last_numbers_of_every_term(client: Client) -> None:
    block = make_block(steps=3)
    send(client, make_request(block, run="healthy"))

    detail = get(client, "/api/runs/healthy")

    (pipeline,) = detail["pipelines"]
    assert (pipeline["pipeline"], pipeline["steps"], pipeline["ranks"]) == ("distillation", 3, [0])
    assert pipeline["base"] == block.base[-1]
    assert pipeline["loss"] == pytest.approx(block.base[-1] + block.total[-1])
    assert [term["term"] for term in pipeline["terms"]] == ["sparsity", "distill"]
    first = pipeline["terms"][0]
    assert (first["value"], first["gradient_norm"]) == (
        block.value[-1, 0],
        block.gradient_norm[-1, 0],
    )
    zero = {"nan": 0, "inf": 0}
    assert first["nonfinite"] == {"input": zero, "value": zero, "gradient": zero}


def test_nonfinite_numbers_are_strings_and_none_is_null(client: Client) -> None:
    block = make_block(steps=1, terms=("a", "b", "c", "d"))
    value = np.array([[np.nan, np.inf, -np.inf, 1.0]])
    norm = np.array([[1.0, 1.0, 1.0, np.nan]])
    flags = np.array([[0, 0, 0, TermFlag.NORM_NOT_MEASURED]], np.int32)
    diverged = replace(block, value=value, gradient_norm=norm, flags=flags)
    send(client, make_request(diverged, run="diverged"))

    detail = get(client, "/api/runs/diverged")

    terms = detail["pipelines"][0]["terms"]
    assert [term["value"] for term in terms] == ["NaN", "Infinity", "-Infinity", 1.0]
    assert terms[3]["gradient_norm"] is None
    assert detail["first_nonfinite"] == {
        "step": 0,
        "pipeline": "distillation",
        "term": "a",
        "stage": "value",
        "kind": "nan",
        "rank": 0,
        "time": block.stop_ns[0] / 1e9,
    }
    series = get(client, "/api/runs/diverged/series?quantity=value")["series"]
    assert [line["value"] for line in series[:4]] == [["NaN"], ["Infinity"], ["-Infinity"], [1.0]]


def test_a_failed_run_says_why(client: Client) -> None:
    end = Event(
        name="penaltyscope.run.end",
        time_ns=1,
        attributes={
            "penaltyscope.status": "failed",
            "exception.type": "ValueError",
            "exception.message": "<b>no</b>",
        },
    )
    send(client, encode_request(RunIdentity(run_id="failed"), [encode_events([end])]))

    (run,) = get(client, "/api/runs")["runs"]

    assert (run["state"], run["ended_at"]) == ("failed", NOW)
    assert run["exception"] == {"type": "ValueError", "message": "<b>no</b>"}


def test_series_hold_the_lines_that_were_asked_for(client: Client) -> None:
    block = make_block(steps=50)
    send(client, make_request(block, run="healthy"))

    series = get(
        client,
        "/api/runs/healthy/series?term=distill&term=base&quantity=value&from_step=100&to_step=190",
    )

    rows = slice(10, 20)
    assert (series["run"], series["pipeline"], series["rank"]) == ("healthy", "distillation", 0)
    assert series["steps"] == 10
    assert series["series"] == [
        {
            "term": "distill",
            "quantity": "value",
            "step": block.step[rows].tolist(),
            "value": pytest.approx(block.value[rows, 1].tolist()),
        },
        {
            "term": "base",
            "quantity": "value",
            "step": block.step[rows].tolist(),
            "value": pytest.approx(block.base[rows].tolist()),
        },
    ]
    assert (series["nonfinite"], series["nonfinite_steps"]) == ([], 0)


@pytest.mark.parametrize("points", [4, 100])
def test_series_are_downsampled_to_the_points_asked_for(client: Client, points: int) -> None:
    send(client, make_request(make_block(steps=500), run="long"))

    series = get(client, f"/api/runs/long/series?points={points}")

    assert len(series["series"]) == 3 * 2 + 3
    assert all(2 <= len(line["step"]) <= points for line in series["series"])


@pytest.mark.parametrize(
    "run",
    ["a/b", "a/series", "%2F", "ü ?#&", "<b>", "'; drop", "x" * 256, "new\nline", "a\\b"],
)
def test_every_run_id_has_its_path(client: Client, run: str) -> None:
    send(client, make_request(make_block(), run=run))

    path = f"/api/runs/{quote(run, safe='')}"

    assert get(client, path)["run"] == run
    assert get(client, f"{path}/series")["run"] == run


@pytest.mark.parametrize("suffix", ["", "/series"])
def test_an_unknown_run_is_404(client: Client, suffix: str) -> None:
    response = client.get(f"/api/runs/no%2Fbody{suffix}")

    assert response.status_code == 404
    assert response.json() == {"detail": "run 'no/body' is not known"}


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("pipeline=x", "pipeline must be one of 'distillation', got 'x'."),
        ("term=x", "term must be one of 'sparsity', 'distill', 'base', 'total', got 'x'."),
        ("rank=7", "rank must be one of '0', got '7'."),
        ("rank=-1", "rank: input should be greater than or equal to 0, got '-1'."),
        (
            "points=many",
            "points: input should be a valid integer, unable to parse string as an integer, "
            "got 'many'.",
        ),
        ("points=3", "points: input should be greater than or equal to 4, got '3'."),
        (
            "quantity=x",
            "quantity.0: input should be 'value', 'contribution' or 'gradient_norm', got 'x'.",
        ),
        ("from=7", "from: extra inputs are not permitted, got '7'."),
        (
            "from_step=1.5",
            "from_step: input should be a valid integer, unable to parse string as an integer, "
            "got '1.5'.",
        ),
    ],
)
def test_a_bad_argument_is_named_with_what_was_expected_and_what_came(
    client: Client, query: str, detail: str
) -> None:
    send(client, make_request(make_block(), run="healthy"))

    response = client.get(f"/api/runs/healthy/series?{query}")

    assert response.status_code == 422
    assert response.json() == {"detail": detail}


def test_the_openapi_document_says_what_is_answered(client: Client) -> None:
    document = get(client, "/openapi.json")

    series = document["paths"]["/api/runs/{run}/series"]["get"]
    assert {parameter["name"] for parameter in series["parameters"]} == {
        "run",
        "pipeline",
        "rank",
        "term",
        "quantity",
        "from_step",
        "to_step",
        "points",
    }
    assert set(series["responses"]) == {*("200", "401", "403", "404", "421", "422", "500", "503")}
    assert "securitySchemes" not in document["components"]
    number = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    value = document["components"]["schemas"]["Line"]["properties"]["value"]
    assert value["items"] == number
    assert "HTTPValidationError" not in document["components"]["schemas"]
