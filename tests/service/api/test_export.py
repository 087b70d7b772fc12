"""``/api/runs/{run}/export`` over a real history."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from penaltyscope_events import StepBlock
from penaltyscope_events.jsonl_reader import read_lines
from penaltyscope_service.app import create_service
from penaltyscope_service.export import FORMATS, Format, export
from penaltyscope_service.settings import Settings
from tests.service.blocks import make_block, make_request
from tests.service.client import Client, ServiceClient
from tests.service.observed import batch, open_observatory
from tests.service.steps import make_steps

PROTOBUF = "application/x-protobuf"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ServiceClient(create_service(Settings(data_dir=tmp_path))) as client:
        for first in (0, 1500):
            body = make_request(make_block(1500, first=first), run='a/"b"\r\nö')
            assert client.post("/v1/logs", body, content_type=PROTOBUF).is_success
        yield client


RUN = "/api/runs/a%2F%22b%22%0D%0A%C3%B6/export"


def test_csv_is_the_default(client: Client) -> None:
    answer = client.get(RUN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''a%2F%22b%22%0D%0A%C3%B6.csv"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [int(row["seq"]) for row in rows[::2]] == list(range(3000))
    assert {row["run"] for row in rows} == {'a/"b"\r\nö'}


def test_lines_of_json_are_what_the_library_reads(client: Client) -> None:
    answer = client.get(f"{RUN}?format=jsonl")
    assert answer.headers["content-type"] == "application/jsonl"
    items = [item for _, item in read_lines(answer.content.splitlines(keepends=True))]
    assert sum(len(item) for item in items if isinstance(item, StepBlock)) == 3000


def test_parquet_begins_and_ends_as_parquet_does(client: Client) -> None:
    answer = client.get(f"{RUN}?format=parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert (answer.content[:4], answer.content[-4:]) == (b"PAR1", b"PAR1")


def test_parquet_without_pyarrow_says_what_to_install(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penaltyscope_service.export._parquet.find_spec", lambda name: None)
    answer = client.get(f"{RUN}?format=parquet")
    assert answer.status_code == 501
    assert answer.json() == {
        "detail": "parquet needs pyarrow: pip install 'penaltyscope[parquet]'."
    }


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/api/runs/x/export", 404, "run 'x' is not known"),
        (
            f"{RUN}?format=xls",
            422,
            "format: input should be 'csv', 'jsonl' or 'parquet', got 'xls'.",
        ),
        (f"{RUN}?fromat=csv", 422, "fromat: extra inputs are not permitted, got 'csv'."),
    ],
)
def test_a_refused_export_says_why(client: Client, path: str, status: int, detail: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.mark.parametrize("kind", FORMATS)
def test_no_piece_is_larger_than_a_few_stored_blocks(tmp_path: Path, kind: Format) -> None:
    observatory = open_observatory(tmp_path)
    terms = [f"term {i}" for i in range(64)]
    for first in range(0, 5 * 1024, 1024):
        observatory.ingest([batch(make_steps(range(first, first + 1024), terms))])
    with observatory.archive("r") as archive:
        assert archive is not None
        pieces = [len(piece) for piece in export(archive, kind)]
    assert len(pieces) >= 5
    assert max(pieces) < sum(pieces) / 3
    observatory.close()
