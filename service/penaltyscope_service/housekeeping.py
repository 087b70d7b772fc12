"""What is done beside the work: old runs deleted, idle ones packed, free space given back."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from penaltyscope_service.history import History
from penaltyscope_service.packing import Packer
from penaltyscope_service.registry import Registry, TrackedRun
from penaltyscope_service.vitals import Watchman

_logger: Final = logging.getLogger(__name__)

_BLOCKS: Final = 64
_PAGES: Final = 256
"""At a time, so that requests wait for no more than a few milliseconds."""
_FREE_RATIO: Final = 1 / 8
"""Of the file, from which on free space is given back; less than that new steps will need soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much is kept of runs that are not under way; the limit of bytes holds for all."""

    seconds: float
    """Since anything was received of the run."""
    runs: int
    bytes: int
    """In the file, without its free pages and its log."""


class Housekeeper:
    """Works in small pieces, between which requests are served."""

    def __init__(
        self,
        history: History,
        registry: Registry,
        *,
        packer: Packer,
        watchman: Watchman,
        retention: Retention,
        writing: threading.Lock,
        lock: threading.Lock,
    ) -> None:
        self._history = history
        self._registry = registry
        self._packer = packer
        self._watchman = watchman
        self._retention = retention
        self._writing = writing
        self._lock = lock
        self._orphans = True  # of a process that was killed before it had deleted them
        self._tight = False

    def tidy(self, now: float) -> None:
        """Does all that there is to do."""
        runs = self._runs()
        over = self._deletable(runs, now)
        self._pack(over)
        too_many = len(runs) - self._retention.runs
        for place, run in enumerate(over):
            if place < too_many or now - run.record.received_at > self._retention.seconds:
                self._delete(run, now)
        self._delete_orphans()
        self._make_room(now)
        self._give_back()

    def _pack(self, runs: Iterable[TrackedRun]) -> None:
        for run in runs:
            if any(stream.loose for stream in list(run.streams.values())):  # a new one may come
                with self._writing:
                    self._packer.pack(list(run.streams.values()), final=True)

    def _make_room(self, now: float) -> None:
        """Deletes the oldest runs and, where only those under way are left, their oldest steps."""
        oldest = self._deletable(self._runs(), now) if self._is_over() else []
        while oldest and self._is_over():
            self._delete(oldest.pop(0), now)
            self._delete_orphans()
        trimmed = 0
        while self._is_over() and (blocks := self._piece(self._history.delete_oldest, _BLOCKS)):
            trimmed += blocks
        if trimmed and not self._tight:
            _logger.warning(
                "the runs under way need more than the %d bytes that may be kept "
                "(retention_bytes): their oldest steps are deleted, their counters go on",
                self._retention.bytes,
            )
        self._tight = trimmed > 0

    def _delete(self, run: TrackedRun, now: float) -> None:
        with self._writing:
            if self._watchman.is_live(run, now):  # it has come back meanwhile
                return
            sources = [s for stream in run.streams.values() for s in stream.sources.values()]
            self._history.bury(run.record.id, sources, now)
            with self._lock:
                self._registry.remove(run)
        self._orphans = True
        _logger.info("run %r was deleted to keep to the limits of what is kept", run.record.run)

    def _delete_orphans(self) -> None:
        while self._orphans:
            self._orphans = self._piece(self._history.delete_orphans, _BLOCKS) > 0

    def _give_back(self) -> None:
        with self._writing:
            worth_it = self._history.free_ratio() > _FREE_RATIO
        left = self._piece(self._history.shrink, _PAGES) if worth_it else 0
        before = left + 1
        while 0 < left < before:  # on a full disk not even this gets on
            before, left = left, self._piece(self._history.shrink, _PAGES)

    def _is_over(self) -> bool:
        with self._writing:
            return self._history.used_bytes() > self._retention.bytes

    def _piece(self, work: Callable[[int], int], most: int) -> int:
        with self._writing:
            return work(most)

    def _runs(self) -> list[TrackedRun]:
        with self._lock:
            return list(self._registry.runs.values())

    def _deletable(self, runs: Sequence[TrackedRun], now: float) -> list[TrackedRun]:
        """Those that are not under way, the one that was heard of longest ago first."""
        over = [run for run in runs if not self._watchman.is_live(run, now)]
        return sorted(over, key=lambda run: run.record.received_at)
