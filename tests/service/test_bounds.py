"""Much of everything, through the front door: runs, terms, names."""

import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penaltyscope_service.app import create_service
from penaltyscope_service.settings import Settings
from tests.service.blocks import make_block, make_request
from tests.service.client import Client, ServiceClient

PROTOBUF = {"content_type": "application/x-protobuf"}
MANY = 10_000


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ServiceClient(create_service(Settings(data_dir=tmp_path))) as client:
        yield client


def post(client: Client, body: bytes) -> None:
    answer = client.post("/v1/logs", body, **PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")


def test_ten_thousand_runs(client: Client) -> None:
    block = make_block(steps=1, terms=["t"])
    for first in range(0, MANY, 500):  # requests of many processes, as a Collector sends them
        runs = range(first, first + 500)
        post(client, b"".join(make_request(block, run=f"run-{number}") for number in runs))

    listed = client.get("/api/runs").json()["runs"]
    assert len(listed) == MANY
    assert {run["steps"] for run in listed} == {1}
    assert client.get("/api/runs/run-9999").json()["last_step"] == 0
    lines = client.get("/metrics").text.splitlines()
    own = dict(line.split(" ") for line in lines if line.startswith("penaltyscope_series"))
    assert float(own["penaltyscope_series"]) <= Settings().series_limit
    assert float(own["penaltyscope_series_refused_total"]) > 0, "a refusal is counted"


def test_a_run_with_ten_thousand_terms(client: Client) -> None:
    terms = [f"term-{number}" for number in range(MANY)]
    post(client, make_request(make_block(steps=2, terms=terms), run="wide"))

    (pipeline,) = client.get("/api/runs/wide").json()["pipelines"]
    assert [term["term"] for term in pipeline["terms"]] == terms
    path = "/api/runs/wide/series?term=term-9999&quantity=value"
    (line,) = client.get(path).json()["series"]
    assert len(line["value"]) == 2


def names() -> dict[str, str]:
    """One name for each category of Unicode, of its first characters."""
    found: dict[str, str] = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)
        if category != "Cs" and len(found.get(category, "")) < 100:  # UTF-8 has no surrogates
            found[category] = found.get(category, "") + character
    return found


NAMES = names()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_of_any_unicode_class_comes_back_as_it_was(client: Client, name: str) -> None:
    block = make_block(steps=1, terms=[name], pipeline=name, incarnation=name)
    post(client, make_request(block, run=name))

    (run,) = client.get("/api/runs").json()["runs"]
    assert (run["run"], run["pipelines"]) == (name, [name])
    path = f"/api/runs/{percent(name)}"
    (pipeline,) = client.get(path).json()["pipelines"]
    assert [term["term"] for term in pipeline["terms"]] == [name]
    (line,) = client.get(f"{path}/series?term={percent(name)}&quantity=value").json()["series"]
    assert line["term"] == name
    families = text_string_to_metric_families(client.get("/metrics").text)
    labels = [s.labels for f in families for s in f.samples if s.name == "penaltyscope_term_value"]
    assert labels == [{"run": name, "pipeline": name, "term": name}]


def percent(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())
