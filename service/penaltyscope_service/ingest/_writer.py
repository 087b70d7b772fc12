"""The one thread that decodes requests and makes them durable."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from penaltyscope_service.decode import Batch, Decoded
from penaltyscope_service.ingest._refusal import RefusedError

_logger: Final = logging.getLogger(__name__)

_GROUP_REQUESTS: Final = 16
"""Most requests in one transaction; all of them are in memory, decoded."""
_BUSY_SECONDS: Final = 1
_STORAGE_SECONDS: Final = 10
"""When to send again: a queue empties in no time, a full disk waits for a person."""


class Store(Protocol):
    """Where batches go; what may be in one is decided when it is decoded."""

    def ingest(self, batches: Sequence[Batch], /) -> object:
        """Keeps all of them, or raises and keeps none; durable on return."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    decode: Callable[[], Decoded]
    future: asyncio.Future[Decoded]

    def succeed(self, decoded: Decoded) -> None:
        self._on_loop(self.future.set_result, decoded)

    def fail(self, error: Exception) -> None:
        self._on_loop(self.future.set_exception, error)

    def _on_loop(self, settle: Callable[[Any], None], result: object) -> None:
        def unless_cancelled() -> None:
            if not self.future.done():
                settle(result)

        self.future.get_loop().call_soon_threadsafe(unless_cancelled)


_Decoded = tuple[_Job, Decoded]


class Writer:
    """A bounded queue of requests, and the thread that works it off.

    Decoding happens on that thread too, so that the event loop stays free to read, refuse and
    serve; requests that come in while a transaction is written share the next one.
    """

    def __init__(self, store: Store, *, max_requests: int, max_bytes: int) -> None:
        self._store = store
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Only the event loop touches these two: no lock is needed.
        self._waiting_requests = 0
        self._waiting_bytes = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def check(self) -> None:
        """Raises RuntimeError when no thread works the queue off."""
        if not self._thread.is_alive():
            raise RuntimeError("its thread is not running.")

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Works off what is queued and still awaited, then ends the thread."""
        self._jobs.put(None)
        self._thread.join()

    def require_room(self) -> None:
        """Raises RefusedError (503) while too many requests, or too large ones, are waiting."""
        if self._waiting_requests >= self._max_requests or self._waiting_bytes >= self._max_bytes:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._waiting_requests} requests of {self._waiting_bytes} bytes are waiting "
                "already; send this one again later.",
                retry_after_seconds=_BUSY_SECONDS,
            )

    async def submit(self, size: int, decode: Callable[[], Decoded]) -> Decoded:
        """Decodes a request and keeps what is in it; returns when that is durable.

        Args:
            size: bytes that the request holds in memory while it waits.
            decode: called on the writer's thread; what it raises is raised here.

        Raises:
            RefusedError: 503, if the queue is full or the history cannot be written.
        """
        self.require_room()
        job = _Job(decode, asyncio.get_running_loop().create_future())
        self._waiting_requests += 1
        self._waiting_bytes += size
        self._jobs.put(job)
        try:
            return await job.future
        finally:
            self._waiting_requests -= 1
            self._waiting_bytes -= size

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._commit(self._gather(job))

    def _gather(self, job: _Job) -> list[_Decoded]:
        """Decodes a request and those that wait behind it: together they cost one transaction."""
        group: list[_Decoded] = []
        following: _Job | None = job
        while following is not None:
            self._decode(following, group)
            if len(group) == _GROUP_REQUESTS or self._jobs.empty():
                return group
            following = self._jobs.get()
        self._jobs.put(None)  # the sign to end is for whoever called
        return group

    def _decode(self, job: _Job, group: list[_Decoded]) -> None:
        if job.future.cancelled():  # nobody waits for it any more, as when the service ends
            return
        try:
            group.append((job, job.decode()))
        except Exception as error:  # noqa: BLE001  # it belongs to the request, which raises it
            job.fail(error)

    def _commit(self, group: Sequence[_Decoded]) -> None:
        batches = [batch for _, decoded in group for batch in decoded.batches]
        try:
            if batches:
                self._store.ingest(batches)
        except (OSError, sqlite3.Error) as error:
            _logger.error("the history cannot be written: %s", error)
            for job, _ in group:
                job.fail(_unwritable(error))
        except Exception as error:  # noqa: BLE001  # as above
            self._commit_one_by_one(group, error)
        else:
            for job, decoded in group:
                job.succeed(decoded)

    def _commit_one_by_one(self, group: Sequence[_Decoded], error: Exception) -> None:
        """One request must not take its neighbours down with it."""
        if len(group) == 1:
            group[0][0].fail(error)
            return
        for single in group:
            self._commit([single])


def _unwritable(error: Exception) -> RefusedError:
    return RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"the history cannot be written at the moment: {error}.",
        retry_after_seconds=_STORAGE_SECONDS,
    )
