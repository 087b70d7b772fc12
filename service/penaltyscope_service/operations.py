"""What operators ask: alive, ready, and how much of everything."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from fastapi import APIRouter, HTTPException, Response
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from pydantic import BaseModel

from penaltyscope_service.access import DENIALS, Tenant
from penaltyscope_service.problem import FAILURES, RETRY_AFTER, Problem

_METRICS: Final = """\
# HELP penaltyscope_run_last_step The step that the rank has reached.
# TYPE penaltyscope_run_last_step gauge
penaltyscope_run_last_step{run="kd-7",rank="0"} 1503
"""

Check = Callable[[], None]
"""Raises when something is not as it must be."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether requests would be kept."""

    status: Literal["ok", "unavailable"]
    reasons: list[str]
    """Why not, one sentence for each; empty when ready."""


def create_operations_router(
    *, render: Callable[[], bytes], registry: CollectorRegistry, checks: Mapping[str, Check]
) -> APIRouter:
    """``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        render: the metrics of runs, in Prometheus' text format 0.0.4.
        registry: the service's metrics of itself.
        checks: what readiness needs, by the name that a failing one is reported under.
    """
    router = APIRouter(tags=["operations"], responses=FAILURES)

    @router.get(
        "/healthz",
        summary="Whether the process answers",
        responses={
            200: {
                "description": "It does.",
                "content": {"application/json": {"example": {"status": "ok"}}},
            }
        },
    )
    def health() -> Health:
        return Health(status="ok")

    @router.get(
        "/readyz",
        summary="Whether requests would be kept",
        responses={
            200: {
                "description": "They would.",
                "content": {"application/json": {"example": {"status": "ok", "reasons": []}}},
            },
            503: {
                "model": Readiness | Problem,
                "description": "They would not; or too many connections are open.",
                "content": {
                    "application/json": {
                        "example": {"status": "unavailable", "reasons": ["history: disk full"]}
                    }
                },
                "headers": RETRY_AFTER,
            },
        },
    )
    def readiness(response: Response) -> Readiness:
        reasons = [reason for name, check in checks.items() if (reason := _failure(name, check))]
        response.status_code = 503 if reasons else 200
        return Readiness(status="unavailable" if reasons else "ok", reasons=reasons)

    @router.get(
        "/metrics",
        summary="Everything that Prometheus scrapes",
        response_class=Response,
        responses={
            200: {
                "content": {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}},
                "description": "Text format 0.0.4.",
            },
            **DENIALS,
        },
    )
    def metrics(tenant: Tenant) -> Response:
        if tenant is not None:
            raise HTTPException(403, "metrics are of all tenants: a token of none may read them.")
        body = render() + generate_latest(_WithoutCreationTimes(registry))
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class _WithoutCreationTimes(Collector):
    """A registry without the ``_created`` sample of every counter, which nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


def _failure(name: str, check: Check) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
        return f"{name}: {error}"
    return ""
