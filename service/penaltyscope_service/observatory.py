"""The state of one shard: everything the service knows, behind one object."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from penaltyscope_events.names import BASE_TERM
from penaltyscope_service.decode import Batch
from penaltyscope_service.exposition import Exposition, Moment, write
from penaltyscope_service.history import Archive, History, Synchronous
from penaltyscope_service.housekeeping import Housekeeper, Retention
from penaltyscope_service.keeping import Keeper, Outcome
from penaltyscope_service.opening import open_history
from penaltyscope_service.packing import Packer
from penaltyscope_service.registry import Registry, TrackedRun, TrackedStream
from penaltyscope_service.series import TOTAL_TERM, Range, line_keys, read_series
from penaltyscope_service.states import Uptime
from penaltyscope_service.summarize import describe, glance_at, summarize
from penaltyscope_service.summary import Quantity, RunDetail, RunSummary, Series
from penaltyscope_service.vitals import Patience, Watchman

_logger: Final = logging.getLogger(__name__)
_LAST_STEP: Final = 2**63 - 1
_DAY_SECONDS: Final = 86_400.0
_MOST_FOLDS: Final = 8
"""Pipelines whose steps a list of runs aggregates; at others it glances, which is no less true."""

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an observatory keeps and shows, and how long it waits."""

    series_limit: int = 200_000
    """Series on ``/metrics`` at most; a pipeline beyond them is kept in the history only."""
    terminal_grace_seconds: float = 3600.0
    """How long the series of a run go on after its end."""
    stall_floor_seconds: float = 60.0
    """A run is never called stalled before it stood still for so long."""
    lost_after_seconds: float = 30.0
    """A run is lost when nothing was heard from it for so long."""
    window_seconds: float = 30.0
    """Window maxima show a spike for at least so long: at least one scrape interval."""
    gap_seconds: float = 300.0
    """Evaluations that have not arrived so long after a later one are counted as missing."""
    synchronous: Synchronous = "NORMAL"
    """``NORMAL`` survives a crash of the process, ``FULL`` one of the machine."""
    retention_days: float = 90.0
    """A run that is not under way is deleted so long after its last record."""
    retention_runs: int = 10_000
    """The oldest runs beyond so many are deleted, unless they are under way."""
    retention_bytes: int = 50 * 1024**3
    """The oldest runs are deleted when the history is larger, then the oldest steps."""


class UnknownName(KeyError):  # noqa: N818  # a name, not a fault
    """An argument names something that does not exist."""

    def __init__(self, argument: str, value: str, known: Iterable[str]) -> None:
        super().__init__(argument, value)
        self.argument = argument
        self.value = value
        self.known = tuple(known)


def _nobody(_run: str) -> str:
    return ""


class Observatory:
    """History, aggregates and run states of one shard.

    ``ingest`` is called by one thread, everything else by any. The lock is held while something
    in memory changes or is read, never while the history is written or a chart is drawn.
    """

    def __init__(
        self,
        history: History,
        registry: Registry,
        *,
        limits: Limits,
        watchman: Watchman,
        clock: Callable[[], float],
    ) -> None:
        self._history = history
        self._registry = registry
        self._limits = limits
        self._watchman = watchman
        self._clock = clock
        self._exposition = Exposition(limits.series_limit)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        packer = Packer(history, registry, self._lock)
        self._keeper = Keeper(
            history,
            registry,
            packer=packer,
            gap_seconds=limits.gap_seconds,
            lock=self._lock,
            clock=clock,
        )
        self._housekeeper = Housekeeper(
            history,
            registry,
            packer=packer,
            watchman=watchman,
            retention=Retention(
                seconds=limits.retention_days * _DAY_SECONDS,
                runs=limits.retention_runs,
                bytes=limits.retention_bytes,
            ),
            writing=self._writing,
            lock=self._lock,
        )

    @classmethod
    def open(cls, path: Path, *, limits: Limits, clock: Callable[[], float] = time.time) -> Self:
        """Opens or creates the history in a file, and rebuilds the aggregates from it.

        Args:
            path: the file; its folder is made where it is missing.
            limits: how much to keep and show.
            clock: Unix time in seconds.

        Raises:
            HistoryError: if the file cannot be used.
        """
        now = clock()
        with ExitStack() as undo:
            history, registry = open_history(
                path, synchronous=limits.synchronous, window_seconds=limits.window_seconds, now=now
            )
            undo.callback(history.close)
            heard = (run.record.received_at for run in registry.runs.values())
            watchman = Watchman(
                Patience(
                    lost_after_seconds=limits.lost_after_seconds,
                    stall_floor_seconds=limits.stall_floor_seconds,
                    terminal_grace_seconds=limits.terminal_grace_seconds,
                ),
                Uptime(alive_at=max(heard, default=now), opened_at=now),
            )
            observatory = cls(history, registry, limits=limits, watchman=watchman, clock=clock)
            undo.pop_all()
        return observatory

    def ingest(self, batches: Sequence[Batch]) -> Outcome:
        """Keeps what is new; durable when it returns, and nothing has changed when it raises."""
        if not batches:
            return Outcome(new_steps=0, duplicates=0)
        with self._writing:
            return self._keeper.keep(batches)

    def tidy(self) -> None:
        """Keeps to the limits of what is kept, packs what rests, gives back free space."""
        self._housekeeper.tidy(self._clock())

    def runs(self) -> list[RunSummary]:
        """All runs, newest first."""
        return list(self.each_run())

    def each_run(self, *, after: str | None = None) -> Iterator[RunSummary]:
        """Runs, newest first, each looked at when it is its turn.

        Args:
            after: the run to begin behind; by default with the newest.

        Raises:
            UnknownName: ``after`` is not known.
        """
        now = self._clock()
        with self._lock:
            runs = dict(reversed(self._registry.runs.items()))
        if after is not None and after not in runs:
            raise UnknownName("run", after, ())
        rest = iter(runs.items())
        if after is not None:
            next(name for name, _ in rest if name == after)
        return self._list((run for _, run in rest), now)

    def run(self, run_id: str) -> RunDetail | None:
        """One run, if it is known."""
        with self._lock:
            run = self._registry.runs.get(run_id)
        return self._look(run, describe, self._clock()) if run is not None else None

    def series(
        self,
        run_id: str,
        *,
        pipeline: str | None,
        rank: int,
        terms: Sequence[str],
        quantities: Sequence[Quantity],
        from_step: int | None,
        to_step: int | None,
        points: int,
    ) -> Series:
        """One rank's numbers over steps, thinned.

        Args:
            run_id: the run.
            pipeline: the pipeline; by default the run's first one.
            rank: the rank.
            terms: what to draw, ``base`` and ``total`` being the task loss and the penalty; by
                default everything.
            quantities: what to draw of them; by default everything.
            from_step: the first step of the range.
            to_step: the last step of the range.
            points: how many points a line may have, at least 4.

        Raises:
            UnknownName: ``run``, ``pipeline``, ``rank`` or ``term`` names nothing.
            ValueError: ``points`` is too small.
        """
        with self._lock:
            stream = self._find(run_id, pipeline, rank)
            stream.fold()
            known = tuple(stream.aggregate.names)
        for term in terms:
            if term not in (*known, BASE_TERM, TOTAL_TERM):
                raise UnknownName("term", term, (*known, BASE_TERM, TOTAL_TERM))
        return read_series(
            self._history,
            stream.row.id,
            run=run_id,
            pipeline=stream.row.pipeline,
            rank=rank,
            keys=tuple(line_keys(known, terms, quantities)),
            within=Range(
                _clamp(0 if from_step is None else from_step),
                _clamp(_LAST_STEP if to_step is None else to_step),
                points,
            ),
        )

    def archive(self, run_id: str) -> AbstractContextManager[Archive | None]:
        """All steps of a run as they are at one moment, if it is known."""
        return self._history.archive(run_id)

    def render(self, tenant_of: Callable[[str], str] = _nobody) -> bytes:
        """The families of all runs in Prometheus' text format 0.0.4.

        Args:
            tenant_of: whose run it is, by its id.
        """
        with self._lock:
            waiting = self._registry.take_waiting()
        for stream in waiting:  # one by one, so that no request waits for all of them
            with self._lock:
                stream.fold()
        limits = self._limits
        with self._lock:
            moment = Moment(
                now=self._clock(),
                window_seconds=limits.window_seconds,
                gap_seconds=limits.gap_seconds,
                watchman=self._watchman,
                tenant_of=tenant_of,
            )
            page = self._exposition.collect(self._registry.runs.values(), moment)
        return write(page, self._history.size_bytes())

    def check(self) -> None:
        """Raises when the history cannot be written, or could not a moment ago."""
        self._keeper.check()

    def close(self) -> None:
        """Closes the history; the observatory cannot be used afterwards."""
        self._history.close()

    def _list(self, runs: Iterable[TrackedRun], now: float) -> Iterator[RunSummary]:
        folds = _MOST_FOLDS
        for run in runs:
            with self._lock:
                waiting = [stream for stream in run.streams.values() if stream.waiting]
                if len(waiting) <= folds:
                    folds -= len(waiting)
                    for stream in waiting:
                        stream.fold()
                summary = summarize(glance_at(run), self._watchman, now)
            yield summary

    def _look(
        self, run: TrackedRun, see: Callable[[TrackedRun, Watchman, float], Seen], now: float
    ) -> Seen:
        with self._lock:
            for stream in run.streams.values():
                stream.fold()
            return see(run, self._watchman, now)

    def _find(self, run_id: str, pipeline: str | None, rank: int) -> TrackedStream:
        run = self._registry.runs.get(run_id)
        if run is None:
            raise UnknownName("run", run_id, self._registry.runs)
        name = pipeline if pipeline is not None else next(iter(run.pipelines), "")
        if name not in run.pipelines:
            raise UnknownName("pipeline", name, run.pipelines)
        streams = run.of_pipeline(name)
        if rank not in streams:
            raise UnknownName("rank", str(rank), map(str, streams))
        return streams[rank]


def _clamp(step: int) -> int:
    """As near as a step can be: no record has one that is out of this range."""
    return min(max(step, 0), _LAST_STEP)
