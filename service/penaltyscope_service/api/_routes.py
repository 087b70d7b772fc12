"""``/api/runs``: what the service knows of every run."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

from penaltyscope_service.access import DENIALS, Tenant, may_see
from penaltyscope_service.api import _examples as examples
from penaltyscope_service.api._export import EXPORT_ANSWERS, ExportQuery, stream_export
from penaltyscope_service.api._models import Run, RunDetail, Runs, Series
from penaltyscope_service.api._problem import UNFIT, UNKNOWN
from penaltyscope_service.api._run_path import SeenRun, unknown_run
from penaltyscope_service.api._runs_query import RunsQuery
from penaltyscope_service.api._series_answer import write_series
from penaltyscope_service.api._series_query import SeriesQuery
from penaltyscope_service.observatory import Observatory, UnknownName
from penaltyscope_service.problem import FAILURES
from penaltyscope_service.summary import RunSummary

_JSON: Final = "application/json"
_SHOWN_NAMES: Final = 20
"""Of the names that an unknown one could have been."""


def create_api_router(observatory: Observatory) -> APIRouter:
    """The read API over a shard's state."""
    router = APIRouter(prefix="/api", tags=["runs"], responses=DENIALS | FAILURES)
    problems = UNKNOWN | UNFIT

    @router.get(
        "/runs",
        summary="Runs, the newest first, all of them or page by page",
        responses=examples.shown(examples.RUNS, "The runs.") | problems,
    )
    def runs(tenant: Tenant, query: Annotated[RunsQuery, Query()]) -> Runs:
        return _page(query, _look(observatory, query.after, tenant))

    @router.get(
        "/runs/{run}",
        summary="A run with its terms' last numbers",
        responses=examples.shown(examples.RUN, "The run.") | problems,
    )
    def run(run: SeenRun) -> RunDetail:
        detail = observatory.run(run)
        if detail is None:
            raise unknown_run(run)
        return RunDetail.model_validate(detail)

    @router.get(
        "/runs/{run}/series",
        summary="Numbers over steps, downsampled so that no NaN, infinity or peak is lost",
        response_model=Series,
        responses=examples.shown(examples.SERIES, "The lines.") | problems,
    )
    def series(run: SeenRun, query: Annotated[SeriesQuery, Query()]) -> Response:
        try:
            found = observatory.series(
                run,
                pipeline=query.pipeline,
                rank=query.rank,
                terms=query.term,
                quantities=query.quantity,
                from_step=query.from_step,
                to_step=query.to_step,
                points=query.points,
            )
        except UnknownName as error:
            raise _unknown_name(run, error) from error
        return Response(write_series(found), media_type=_JSON)

    @router.get(
        "/runs/{run}/export",
        summary="Every step of a run as a file",
        response_class=StreamingResponse,
        responses=EXPORT_ANSWERS | problems,
    )
    def export(run: SeenRun, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        return stream_export(observatory, run, query.format)

    return router


def _look(observatory: Observatory, after: str | None, tenant: str | None) -> Iterator[RunSummary]:
    if after is not None and not may_see(after, tenant):
        raise unknown_run(after)
    try:
        runs = observatory.each_run(after=after)
    except UnknownName as error:
        raise unknown_run(error.value) from error
    return (run for run in runs if may_see(run.run, tenant))


def _page(query: RunsQuery, runs: Iterator[RunSummary]) -> Runs:
    wanted = (run for run in runs if not query.state or run.state in query.state)
    page = [Run.model_validate(run) for run in islice(wanted, query.limit)]
    more = next(wanted, None) is not None
    return Runs(runs=page, next=page[-1].run if more else None)


def _unknown_name(run: str, error: UnknownName) -> HTTPException:
    if error.argument == "run":
        return unknown_run(run)
    shown, hidden = error.known[:_SHOWN_NAMES], error.known[_SHOWN_NAMES:]
    known = ", ".join(map(repr, shown)) + (", …" if hidden else "")
    return HTTPException(422, f"{error.argument} must be one of {known}, got {error.value!r}.")
