"""Names that would like to be something else: a label, a line, a path, a header."""

import re
import subprocess
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.blocks import make_block, make_request
from tests.service.process import serve

NAMES = [
    'x"} 1\npenaltyscope_forged_total{run="y',
    "\n2026-01-01 00:00:00,000 CRITICAL penaltyscope_service forged",
    "\r\nset-cookie: forged=1",
    "../../../forged",
    "/etc/forged",
    "<script>forged()</script>",
    "\x1b[2Jforged",
    "forged\u2028\u202e\x00\x7f",
    "'; DROP TABLE run; -- forged",
    "%0d%0aforged",
    "{{forged}}${forged}%(forged)s",
]
LOGGED = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (INFO|WARNING) penaltyscope_service\.\S+ \S")


def post(client: httpx.Client, name: str) -> httpx.Response:
    body = make_request(make_block(steps=2), run=name)
    return client.post("/v1/logs", content=body, headers={"content-type": "application/x-protobuf"})


@pytest.mark.parametrize("series_limit", ["100000", "1"], ids=["roomy", "full"])
def test_names_stay_names_in_metrics_api_files_and_logs(tmp_path: Path, series_limit: str) -> None:
    data = tmp_path / "data"
    flags = ("--series-limit", series_limit)
    with serve(data, *flags, stderr=subprocess.PIPE) as service:
        with httpx.Client(base_url=service.url) as client:
            for name in NAMES:
                assert post(client, name).status_code == 200
            answers = [
                client.get(f"/api/runs/{quote(name, safe='')}{path}")
                for name in (*NAMES, "forged?")
                for path in ("", "/series", "/series?term=forged%0a", "/export?format=jsonl", "/x")
            ]
            metrics = client.get("/metrics").text
            runs = client.get("/api/runs").json()["runs"]
            answers.append(client.get("/assets/..%2f..%2fforged"))
            answers.append(client.get("/api/runs", headers={"host": "forged.example"}))
        service.process.terminate()
        _, errors = service.process.communicate(timeout=10)

    assert {run["run"] for run in runs} == set(NAMES)
    for answer in answers:
        assert answer.status_code in (200, 404, 421, 422)
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not answer.headers["content-type"].startswith("text/html")
    families = list(text_string_to_metric_families(metrics))
    assert not [family.name for family in families if "forged" in family.name]
    if series_limit != "1":
        shown = {sample.labels.get("run") for family in families for sample in family.samples}
        assert set(NAMES) <= shown
    assert [path.name for path in tmp_path.rglob("*forged*")] == []
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {data}
    lines = errors.split("\n")[:-1]
    assert all(LOGGED.match(line) for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    assert any("have no series" in line for line in lines) == (series_limit == "1")
