"""The only wiring: settings in, one ASGI application out."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from penaltyscope_service.api import EncodedRunPaths, create_api_router, refuse_arguments
from penaltyscope_service.assets import create_assets_router
from penaltyscope_service.ingest import Ingest, IngestMetrics, Writer
from penaltyscope_service.observatory import Limits, Observatory
from penaltyscope_service.operations import create_operations_router
from penaltyscope_service.reference import create_reference_router
from penaltyscope_service.security import SecurityHeaders
from penaltyscope_service.settings import Settings
from penaltyscope_service.upkeep import Upkeep

_TIDY_SECONDS: Final = 10.0
HISTORY_FILE: Final = "history.sqlite"


def create_app(settings: Settings, *, clock: Callable[[], float] = time.time) -> ASGIApp:
    """The whole service; its lifespan ends the writer and closes the history.

    Args:
        settings: limits and where the history lies; host and port are the server's business.
        clock: Unix time in seconds.

    Raises:
        OSError: if the folder of the history cannot be made.
        sqlite3.Error: if the history cannot be opened.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    observatory = Observatory.open(
        settings.data_dir / HISTORY_FILE, limits=_limits(settings), clock=clock
    )
    registry = CollectorRegistry()
    writer = Writer(
        observatory, max_requests=settings.queue_requests, max_bytes=settings.queue_bytes
    )

    upkeep = Upkeep(observatory.tidy, pause_seconds=_TIDY_SECONDS)

    @asynccontextmanager
    async def lifespan(_rest: FastAPI) -> AsyncGenerator[None]:
        writer.start()
        upkeep.start()
        try:
            yield
        finally:
            await asyncio.to_thread(upkeep.close)
            await asyncio.to_thread(writer.close)
            observatory.close()

    rest = FastAPI(
        title="Penaltyscope",
        version=version("penaltyscope"),
        summary="Penalty terms of training runs, watched.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    rest.add_exception_handler(RequestValidationError, refuse_arguments)
    for router in _routers(observatory, writer, registry, title=rest.title):
        rest.include_router(router)
    return Ingest(
        SecurityHeaders(EncodedRunPaths(rest)),
        writer=writer,
        metrics=IngestMetrics(registry),
        max_body_bytes=settings.max_body_bytes,
        clock=clock,
    )


def _routers(
    observatory: Observatory, writer: Writer, registry: CollectorRegistry, *, title: str
) -> tuple[APIRouter, ...]:
    return (
        create_api_router(observatory),
        create_operations_router(
            render=observatory.render,
            registry=registry,
            checks={"history": observatory.check, "writer": writer.check},
        ),
        create_assets_router(),
        create_reference_router(title),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(**{limit.name: getattr(settings, limit.name) for limit in fields(Limits)})
