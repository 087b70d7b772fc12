"""A real training run in a process of its own, watched through everything that is shipped."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.real_parts import (
    ALERTS,
    ROOT,
    Part,
    alertmanager,
    prometheus,
    service,
    wait_for,
)
from tests.end_to_end.webhook import webhook

TERMS = ["distill", "confidence", "decorrelation", "sparsity"]


@contextmanager
def training(
    endpoint: str, run: str, *, steps: int, diverge_after: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """``examples/digits.py`` as a user would start it."""
    command = [sys.executable, "examples/digits.py", "--run", run, "--steps", str(steps)]
    command += ["--endpoint", endpoint]
    if diverge_after is not None:
        command += ["--diverge-after", str(diverge_after)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def known(there: Part, run: str) -> dict[str, Any]:
    try:
        response = httpx.get(f"{there.url}/api/runs/{run}", timeout=10)
    except httpx.TransportError:
        return {"steps": 0, "state": "unreachable"}
    if response.status_code == 404:
        return {"steps": 0, "state": "unknown"}
    return dict(response.raise_for_status().json())


def counter(there: Part, name: str, run: str) -> float:
    """Sum over a run's series of a family in ``/metrics``."""
    pattern = rf'^{name}\{{[^}}]*run="{re.escape(run)}"[^}}]*\}} (\S+)$'
    return sum(map(float, re.findall(pattern, there.get("/metrics").text, re.MULTILINE)))


@pytest.mark.real
def test_a_run_that_diverges_by_itself_is_told_within_15_seconds_and_counted_alike_everywhere(
    tmp_path: Path,
) -> None:
    steps, diverge_after = 1500, 1000
    with webhook() as hook:
        shipped = (ALERTS / "alertmanager.yml").read_text()
        config = shipped.replace("http://127.0.0.1:5001/", hook.url)
        with (
            service(tmp_path / "service") as there,
            alertmanager(tmp_path / "alertmanager", config=config) as manager,
            prometheus(tmp_path / "prometheus", target=there.url, alertmanager=manager.url) as prom,
            training(there.url, "diverging", steps=steps, diverge_after=diverge_after) as job,
        ):
            wait_for(
                "the alert",
                lambda: hook.alerts("firing", alertname="PenaltyscopeNonFinite"),
                seconds=60,
            )
            told_at = time.time()
            ended(job)
            run = wait_for(
                "the end of the run",
                lambda: (r := known(there, "diverging"))["state"] == "finished" and r,
            )

            first = run["first_nonfinite"]
            assert told_at - first["time"] <= 15
            labels = [alert["labels"] for alert in hook.alerts("firing", run="diverging")]
            # The term whose gradient exploded is the one that is found first.
            assert (first["term"], first["stage"], first["rank"]) == ("decorrelation", "value", 0)
            assert diverge_after < first["step"] < diverge_after + 20
            assert {"term": first["term"], "stage": first["stage"], "rank": "0"}.items() <= {
                **next(a for a in labels if a["term"] == first["term"] and a["stage"] == "value")
            }.items()

            assert run["steps"] == steps
            (pipeline,) = run["pipelines"]
            assert [term["term"] for term in pipeline["terms"]] == TERMS
            assert run["nonfinite_steps"] == steps - first["step"]
            found = sum(
                count
                for term in pipeline["terms"]
                for kinds in term["nonfinite"].values()
                for count in kinds.values()
            )
            assert counter(there, "penaltyscope_pipeline_steps_total", "diverging") == steps
            in_terms = 'penaltyscope_nonfinite_total{run="diverging",term!="base"}'
            wait_for(
                "the last scrape",
                lambda: [v for _, v in prom.query(f"sum({in_terms})")] == [found],
            )
            (steps_scraped,) = prom.query('penaltyscope_pipeline_steps_total{run="diverging"}')
            assert steps_scraped[1] == steps
            # Every accepted record is counted by event: as many stops as steps, and as many starts.
            for event in ("pipeline.start", "pipeline.stop"):
                accepted = f'penaltyscope_ingest_records_total{{event="{event}"}}'
                assert [v for _, v in prom.query(accepted)] == [steps]


def test_killing_the_service_in_the_middle_of_a_run_loses_no_step(tmp_path: Path) -> None:
    steps = 3000
    with service(tmp_path / "data") as there:
        port = int(there.url.rsplit(":", 1)[1])
        with training(there.url, "survivor", steps=steps) as job:
            wait_for("some steps", lambda: known(there, "survivor")["steps"] >= 500, seconds=60)
            before = counter(there, "penaltyscope_pipeline_steps_total", "survivor")
            there.kill()
            assert job.poll() is None, "the run was still going on"
            # Training goes on while nobody listens.
            time.sleep(1)
            with service(tmp_path / "data", port=port) as again:
                after = counter(again, "penaltyscope_pipeline_steps_total", "survivor")
                assert after >= before, "what was acknowledged is there at once"
                ended(job)
                run = wait_for(
                    "the end of the run",
                    lambda: (r := known(again, "survivor"))["state"] == "finished" and r,
                )
                assert run["steps"] == steps
                total = counter(again, "penaltyscope_pipeline_steps_total", "survivor")
                assert total == steps
                missing = counter(again, "penaltyscope_ingest_missing_records_total", "survivor")
                assert missing == 0
