from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from penaltyscope_service.operations import Check, create_operations_router
from tests.service.client import Client


def fail() -> None:
    raise OSError("read-only file system")


@contextmanager
def client(**checks: Check) -> Iterator[Client]:
    registry = CollectorRegistry()
    Counter("own", "Own.", registry=registry).inc()
    app = FastAPI()
    app.include_router(
        create_operations_router(
            render=lambda: b"# TYPE of_runs gauge\nof_runs 1\n", registry=registry, checks=checks
        )
    )
    with Client(app) as client:
        yield client


def test_health_is_that_the_process_answers() -> None:
    with client(history=fail) as service:
        response = service.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ready_is_that_every_check_passes() -> None:
    with client(history=lambda: None) as service:
        response = service.get("/readyz")

    assert (response.status_code, response.json()) == (200, {"status": "ok", "reasons": []})


def test_not_ready_says_why() -> None:
    with client(writer=lambda: None, history=fail) as service:
        response = service.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {
        "status": "unavailable",
        "reasons": ["history: read-only file system"],
    }


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text;version=1.0.0"])
def test_metrics_of_runs_and_of_the_service_are_one_text_in_format_0_0_4(accept: str) -> None:
    with client() as service:
        response = service.get("/metrics", accept=accept)

    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.text.startswith("# TYPE of_runs gauge\nof_runs 1\n")
    assert "own_total 1.0\n" in response.text
    assert "_created" not in response.text
