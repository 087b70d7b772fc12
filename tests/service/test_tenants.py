"""Two tenants and somebody who sees both, with the same names for everything."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import grpc
import httpx
import pytest

from penaltyscope_service.access import add_token
from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
FLAGS = ("--grpc", "--grpc-port", "0")


@dataclass(frozen=True)
class Tenants:
    service: Service
    a: str
    b: str
    all: str

    def post(self, secret: str, *, run: str = "same", steps: int = 3, first: int = 0) -> None:
        body = make_request(make_block(steps, first=first), run=run)
        headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {secret}"}
        url = f"{self.service.url}/v1/logs"
        assert httpx.post(url, content=body, headers=headers).content == b""

    def get(self, secret: str, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.get(self.service.url + path, headers=headers)

    def steps(self, secret: str) -> dict[str, int]:
        return {r["run"]: r["steps"] for r in self.get(secret, "/api/runs").json()["runs"]}


def make_tokens(file: Path) -> tuple[str, str, str]:
    a, b = (add_token(file, t, ["ingest", "read"], tenant=t) for t in ("a", "b"))
    return a, b, add_token(file, "all", ["read"])


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Tenants]:
    file = tmp_path / "tokens.toml"
    secrets = make_tokens(file)
    with serve(tmp_path / "data", "--tokens-file", str(file), *FLAGS) as service:
        yield Tenants(service, *secrets)


def test_the_same_run_of_two_tenants_is_two_runs_and_stays_so(tmp_path: Path) -> None:
    file, data = tmp_path / "tokens.toml", tmp_path / "data"
    secrets = make_tokens(file)
    expected = {"a/same": 3, "b/same": 5}
    for again in (False, True):
        with serve(data, "--tokens-file", str(file)) as service:
            tenants = Tenants(service, *secrets)
            tenants.post(tenants.a)
            tenants.post(tenants.b, steps=5)

            assert tenants.steps(tenants.all) == expected, f"after a restart: {again}"
            assert tenants.steps(tenants.a) == {"a/same": 3}
            assert tenants.steps(tenants.b) == {"b/same": 5}
            metrics = tenants.get(tenants.all, "/metrics").text
            for run, count in expected.items():
                labels = f'{{run="{run}",pipeline="distillation",rank="0"}}'
                assert f"penaltyscope_pipeline_steps_total{labels} {count}\n" in metrics
                assert f'penaltyscope_run_info{{run="{run}",tenant="{run[0]}"}} 1.0\n' in metrics
            service.process.kill()


def test_what_a_client_says_does_not_make_it_another_tenant(tenants: Tenants) -> None:
    tenants.post(tenants.b)
    for name in ("b/same", "/b/same", "../b/same", "a/same"):
        tenants.post(tenants.a, run=name, steps=7)
    body = make_request(make_block(7), run="b/rpc")
    with grpc.insecure_channel(tenants.service.grpc) as channel:
        export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOGS)
        export(body, metadata=(("authorization", f"Bearer {tenants.a}"),), timeout=30)

    assert tenants.steps(tenants.b) == {"b/same": 3}
    assert tenants.steps(tenants.a) == {
        "a/b/same": 7,
        "a//b/same": 7,
        "a/../b/same": 7,
        "a/a/same": 7,
        "a/b/rpc": 7,
    }


def test_a_run_of_another_tenant_is_as_unknown_as_one_that_is_not_there(tenants: Tenants) -> None:
    tenants.post(tenants.b)
    for name in ("b/same", "b/none", "same", "a/../b/same", "%62/same"):
        for path in ("", "/series", "/export"):
            answer = tenants.get(tenants.a, f"/api/runs/{quote(name, safe='')}{path}")
            assert answer.status_code == 404
            assert answer.json() == {"detail": f"run {name!r} is not known"}
    assert tenants.get(tenants.b, "/api/runs/b%2Fsame/series").json()["steps"] == 3
    assert tenants.get(tenants.all, "/api/runs/b%2Fsame").json()["steps"] == 3


def test_a_list_cannot_begin_behind_the_run_of_another_tenant(tenants: Tenants) -> None:
    tenants.post(tenants.b)
    for name in ("b/same", "b/none"):
        answer = tenants.get(tenants.a, f"/api/runs?after={quote(name)}")
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"run {name!r} is not known"}


def test_metrics_are_for_nobody_s_token(tenants: Tenants) -> None:
    assert tenants.get(tenants.a, "/metrics").status_code == 403
    assert tenants.get(tenants.all, "/metrics").status_code == 200
    for path in ("/", "/docs", "/openapi.json"):
        assert tenants.get(tenants.a, path).status_code == 200
