"""The one thread that decodes requests and makes them durable."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Final, Protocol

from penaltyscope_service.decode import Batch, Decoded
from penaltyscope_service.ingest._job import Job, Outcome
from penaltyscope_service.refusal import RefusedError

_logger: Final = logging.getLogger(__name__)

_GROUP_REQUESTS: Final = 64
_GROUP_BYTES: Final = 4 * 1024**2
"""Most requests, and about as many bytes, in one transaction; all are in memory, decoded."""
_TURN_SECONDS: Final = 0.01
"""For so long at most the event loop stands still to let the writer's thread work."""
_BUSY_SECONDS: Final = 1
_STORAGE_SECONDS: Final = 10
"""When to send again: a queue empties in no time, a full disk waits for a person."""


class Store(Protocol):
    """Where batches go; what may be in one is decided when it is decoded."""

    def ingest(self, batches: Sequence[Batch], /) -> object:
        """Keeps all of them, or raises and keeps none; durable on return."""


_Decoded = tuple[Job, Decoded]
_Settled = tuple[Job, Outcome | None]
"""Nothing for a request that nobody waited for any more."""


class Writer:
    """A bounded queue of requests, and the thread that works it off.

    Decoding happens on that thread too, so that the event loop stays free to read, refuse and
    serve. Requests that come in while a transaction is written share the next one; they go to the
    thread and back together, since waking it costs more than a small request.

    The two threads take turns as long as the writer's are short. Side by side they would gain
    nothing but the time that the disk takes, for there is one interpreter's lock, and to hand that
    over at every system call costs more than a small request, too.
    """

    def __init__(self, store: Store, *, max_requests: int, max_bytes: int) -> None:
        self._store = store
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[list[_Settled]] = queue.SimpleQueue()
        self._is_awaited = False
        """Whether the event loop stands still until something is settled."""
        # Only the event loop changes these four: no lock is needed.
        self._fresh: list[Job] = []
        self._waiting_requests = 0
        self._waiting_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
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

    def submit(
        self, size: int, decode: Callable[[], Decoded], done: Callable[[Outcome], None]
    ) -> Job:
        """Decodes a request and keeps what is in it.

        Args:
            size: bytes that the request holds in memory while it waits.
            decode: called on the writer's thread.
            done: called in the event loop when what was decoded is durable, or with what
                ``decode`` raised, or RefusedError, 503, if the history cannot be written; not at
                all once the job is cancelled.

        Raises:
            RefusedError: 503, if the queue is full.
        """
        self.require_room()
        job = Job(size, decode, done)
        self._waiting_requests += 1
        self._waiting_bytes += size
        if not self._fresh:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._hand_over)
        self._fresh.append(job)
        return job

    def _hand_over(self) -> None:
        jobs, self._fresh = self._fresh, []
        self._jobs.put(jobs)
        if self._waiting_requests > len(jobs):  # the writer is behind: a turn would be long
            return
        self._is_awaited = True
        try:
            self._settle(self._settled.get(timeout=_TURN_SECONDS))
        except queue.Empty:
            pass
        finally:
            self._is_awaited = False
        self._collect()  # what was settled before the writer could know that it must tell

    def _collect(self) -> None:
        while not self._settled.empty():
            self._settle(self._settled.get())

    def _run(self) -> None:
        while (jobs := self._jobs.get()) is not None:
            while not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    self._jobs.put(None)  # the sign to end, for the loop above
                    break
                jobs += more
            for group in _groups(jobs):
                self._work_off(group)

    def _work_off(self, jobs: Sequence[Job]) -> None:
        """Decodes some requests and keeps what is in them: they cost one transaction."""
        decoded: list[_Decoded] = []
        settled: list[_Settled] = []
        for job in jobs:
            if job.is_cancelled:  # as when the service ends
                settled.append((job, None))
                continue
            try:
                decoded.append((job, job.decode()))
            except Exception as error:  # noqa: BLE001  # it belongs to the request, which raises it
                settled.append((job, error))
        settled += self._commit(decoded)
        self._settled.put(settled)
        # Asked only now: who stopped waiting before this looks once more.
        if not self._is_awaited and self._loop is not None:
            self._loop.call_soon_threadsafe(self._collect)
        # An error holds this frame, and all of its request: held by the frame in turn, they would
        # stay until a collection.
        del settled

    def _commit(self, group: Sequence[_Decoded]) -> list[_Settled]:
        batches = [batch for _, decoded in group for batch in decoded.batches]
        try:
            if batches:
                self._store.ingest(batches)
        except (OSError, sqlite3.Error) as error:
            _logger.error("the history cannot be written: %s", error)
            return [(job, _unwritable(error)) for job, _ in group]
        except Exception as error:  # noqa: BLE001  # as above
            if len(group) == 1:
                return [(group[0][0], error)]
            # One request must not take its neighbours down with it.
            return [settled for single in group for settled in self._commit([single])]
        return list(group)

    def _settle(self, settled: Sequence[_Settled]) -> None:
        for job, outcome in settled:
            self._waiting_requests -= 1
            self._waiting_bytes -= job.size
            if outcome is None or job.is_cancelled:  # perhaps meanwhile
                continue
            try:
                job.done(outcome)
            except Exception:
                # One answer that cannot be given must not keep the others from being given.
                _logger.exception("a request could not be answered")


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """As many at a time as may be in memory, decoded."""
    group: list[Job] = []
    size = 0
    for job in jobs:
        if group and (len(group) == _GROUP_REQUESTS or size + job.size > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(job)
        size += job.size
    yield group


def _unwritable(error: Exception) -> RefusedError:
    return RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"the history cannot be written at the moment: {error}.",
        retry_after_seconds=_STORAGE_SECONDS,
    )
