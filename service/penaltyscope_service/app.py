"""The only wiring: settings in, a whole service out."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from penaltyscope_service.access import Gate, Guard, QuotaMetrics, describe_tokens
from penaltyscope_service.api import (
    EncodedRunPaths,
    admit_damage,
    admit_defect,
    create_api_router,
    refuse_arguments,
)
from penaltyscope_service.assets import create_assets_router
from penaltyscope_service.history import DamagedError
from penaltyscope_service.ingest import (
    GrpcServer,
    IngestMetrics,
    Receiver,
    Writer,
    describe_paths,
)
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.operations import create_operations_router
from penaltyscope_service.reference import create_reference_router
from penaltyscope_service.security import SecurityHeaders
from penaltyscope_service.settings import HISTORY_FILE, Settings
from penaltyscope_service.upkeep import Upkeep

_TIDY_SECONDS: Final = 10.0
_TAGS: Final = [
    {"name": "otlp", "description": "What jobs send."},
    {"name": "runs", "description": "What is known of them."},
    {"name": "operations", "description": "What operators ask."},
]


class _Rest(FastAPI):
    """Everything but OTLP, which its document describes all the same."""

    needs_tokens: bool = False

    def openapi(self) -> dict[str, Any]:
        """The whole document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            paths, schemas = describe_paths()
            document["paths"] = paths | document["paths"]
            document["components"]["schemas"] |= schemas
            if self.needs_tokens:
                describe_tokens(document)
        return super().openapi()


@dataclass(frozen=True, slots=True)
class Service:
    """What a server needs."""

    app: ASGIApp
    """Everything but OTLP over HTTP; its lifespan ends the writer and closes the history."""
    receiver: Receiver
    """Of OTLP, while the lifespan lasts."""


def create_service(
    settings: Settings,
    *,
    gate: Gate | None = None,
    clock: Callable[[], float] = time.time,
    registry: CollectorRegistry | None = None,
    announce: Callable[[str], object] = str,
) -> Service:
    """The whole service.

    Args:
        settings: limits and where the history lies; host and port are the server's business.
        gate: who may send and look; by default everyone who reaches the port.
        clock: Unix time in seconds.
        registry: where the service's metrics of itself go; default: one of its own.
        announce: called with the address of OTLP/gRPC, where that is served.

    Raises:
        OSError: if the folder of the history cannot be made.
        sqlite3.Error: if the history cannot be opened.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    observatory = Observatory.open(
        settings.data_dir / HISTORY_FILE, limits=settings.limits, clock=clock
    )
    registry = registry or CollectorRegistry()
    gate = gate or Gate(host_names=settings.own_names)
    registry.register(QuotaMetrics(gate))
    writer = Writer(
        observatory, max_requests=settings.queue_requests, max_bytes=settings.queue_bytes
    )

    upkeep = Upkeep(observatory.tidy, pause_seconds=_TIDY_SECONDS)
    receiver = Receiver(
        writer=writer,
        metrics=IngestMetrics(registry),
        max_body_bytes=settings.max_body_bytes,
        max_reading_bytes=settings.queue_bytes,
        clock=clock,
        gate=gate,
    )

    @asynccontextmanager
    async def lifespan(_rest: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(observatory.close)
            writer.start()
            stack.push_async_callback(asyncio.to_thread, writer.close)
            upkeep.start()
            stack.push_async_callback(asyncio.to_thread, upkeep.close)
            if settings.grpc:
                grpc = _grpc(settings, receiver)
                announce(await grpc.start())
                stack.push_async_callback(grpc.stop)
            yield

    rest = _Rest(
        title="Penaltyscope",
        version=version("penaltyscope"),
        summary="Penalty terms of training runs, watched.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        generate_unique_id_function=attrgetter("name"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    rest.needs_tokens = gate.asks
    rest.add_exception_handler(RequestValidationError, refuse_arguments)
    rest.add_exception_handler(DamagedError, admit_damage)
    rest.add_exception_handler(Exception, admit_defect)
    for router in _routers(observatory, writer, gate, registry, title=rest.title):
        rest.include_router(router)
    return Service(SecurityHeaders(Guard(EncodedRunPaths(rest), gate)), receiver)


def _grpc(settings: Settings, receiver: Receiver) -> GrpcServer:
    return GrpcServer(
        receiver,
        host=settings.host,
        port=settings.grpc_port,
        body_seconds=settings.body_seconds,
        tls=settings.tls,
    )


def _routers(
    observatory: Observatory,
    writer: Writer,
    gate: Gate,
    registry: CollectorRegistry,
    *,
    title: str,
) -> tuple[APIRouter, ...]:
    return (
        create_api_router(observatory),
        create_operations_router(
            render=partial(observatory.render, gate.tenant_of),
            registry=registry,
            checks={"history": observatory.check, "writer": writer.check},
        ),
        create_assets_router(),
        create_reference_router(title),
    )
