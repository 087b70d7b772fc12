"""Runs the application: one socket, one process, a clean end."""

import asyncio
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from penaltyscope_service.connection import ConnectionLimits
from penaltyscope_service.ingest import Receiver
from penaltyscope_service.otlp import connections
from penaltyscope_service.renewal import Renewal
from penaltyscope_service.tls import Tls

_logger: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
"""Between two looks at files that may be new."""
_NEW_OBJECTS: Final = 10_000
"""More than these are looked through for cycles, of which requests make none: Python would look
after 700, at every third group of requests."""
_OWN_DESCRIPTORS: Final = 128
"""Kept back for the history, the log and the listening sockets."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises OSError where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def address(listening: socket.socket, *, tls: Tls | None = None) -> str:
    """The URL under which the socket is reached."""
    host, port = listening.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def allow_connections(wanted: int) -> int:
    """Raises the limit of open files as far as it goes, and returns how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_DESCRIPTORS
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < needed:
        _logger.warning(
            "at most %d files may be open (ulimit -n), so at most %d connections, not %d",
            *(possible, possible - _OWN_DESCRIPTORS, wanted),
        )
    return possible - _OWN_DESCRIPTORS


def run(
    app: ASGIApp,
    receiver: Receiver,
    listening: socket.socket,
    *,
    limits: ConnectionLimits,
    tls: Tls | None = None,
    renewals: Sequence[Renewal] = (),
    on_ready: Callable[[], None],
) -> None:
    """Serves until SIGINT or SIGTERM, then ends within two seconds.

    Certificates, and what ``renewals`` read, are read again after SIGHUP, and when a look at the
    files every few seconds finds them new.

    Args:
        app: everything but OTLP; its lifespan events are sent.
        receiver: of OTLP.
        listening: from :func:`bind`.
        limits: what a client may take.
        tls: how connections are protected; not at all by default.
        renewals: what else is read again.
        on_ready: called once requests are answered.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        http=connections(receiver, limits),
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,  # longer than any recorder's interval: one connection per job
        ws="none",
        **(tls.uvicorn_options() if tls else {}),
    )
    config.load()
    if tls is not None and config.ssl is not None:
        renewals = (*renewals, tls.renewal(config.ssl))
    _Server(config, renewals, on_ready).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, renewals: Sequence[Renewal], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._renewals = renewals
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._renewals:  # otherwise SIGHUP ends the service, as when its terminal is closed
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._renew)
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        # What was made by now lives as long as the process: no collection needs to look at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        self._on_ready()

    def _renew(self) -> None:
        for renewal in self._renewals:
            renewal.now()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        for renewal in self._renewals:
            renewal.look()
        loop.call_later(_LOOK_SECONDS, self._look, loop)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As its parent's, but a signal that ended the service well is not raised once more."""
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
