"""What is known of runs and their processes, and what every record they send changes in it.

Times are Unix seconds at which the service received, so that no job's clock is trusted; only the
order of one process's own records is taken from its clock (nanoseconds).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from penaltyscope_events import AttributeValue, Event, RunIdentity, names
from penaltyscope_service.summary import Failure, State

Status = Literal["finished", "failed", "interrupted"]

_MOST_DROPPED: Final = 2**53
"""More is a client's mistake, and would not fit the history."""
_LONGEST_TEXT: Final = 4096
"""Characters of an exception that are kept: they are written with every request."""
RECEIVED_SECONDS: Final = 1.0
"""How exactly it is known when something was last received of a run."""
STALLED_INTERVALS: Final = 20
"""A run is stalled after so many of its own median step intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended."""

    status: Status
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run, apart from its steps."""

    id: int
    """The history's own number of the run."""
    run: str
    started_at: float
    received_at: float
    reopened_at: float
    """When it was last started: at first, or again after an end."""
    attempt: int
    world_size: int
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the lowest rank said last."""
    ranks: tuple[int, ...] = ()
    """Those that were ever heard of, ascending."""
    present: frozenset[int] = frozenset()
    """Ranks heard of since the run was last started; a resumed run may have fewer."""
    endings: Mapping[int, Ending] = field(default_factory=dict)
    """By rank, since the run was last started."""
    ended_at: float | None = None
    failure: Failure | None = None

    @property
    def status(self) -> Status | None:
        """How the run ended: as badly as any process, but well only if all of them did."""
        said = {ending.status for ending in self.endings.values()}
        if "failed" in said:
            return "failed"
        if "interrupted" in said:
            return "interrupted"
        return "finished" if said and self.present <= self.endings.keys() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One rank of a run, apart from its steps."""

    run: int
    """The run's number."""
    rank: int
    received_at: float
    start_ns: int = 0
    """When its newest process started; 0 when no start was received."""
    health_ns: int = 0
    """When the newest report of a recorder's own counters was made."""
    dropped_before: int = 0
    """Steps that recorders of earlier processes have dropped."""
    dropped: int = 0
    overhead_seconds: float | None = None
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Uptime:
    """Tells for how long the service could have heard something, but did not.

    A run is not lost because the service was down: the time between the last record that was
    received and the start of the service does not count.
    """

    alive_at: float
    opened_at: float

    def since(self, time: float, now: float) -> float:
        """Seconds from ``time`` to ``now``, without those when the service was down."""
        away = max(self.opened_at - self.alive_at, 0.0) if time <= self.alive_at else 0.0
        return now - time - away


def hear(run: RunRecord, identity: RunIdentity, now: float) -> RunRecord:
    """Any record was received; a higher attempt starts the run again."""
    rank = identity.rank
    if rank not in run.ranks:
        run = replace(run, ranks=tuple(sorted((*run.ranks, rank))))
    if identity.attempt > run.attempt:
        run = _reopen(replace(run, attempt=identity.attempt), {}, now)
    if identity.attempt == run.attempt:
        if rank not in run.present:
            run = _settle(replace(run, present=run.present | {rank}), now)
        said = (identity.tags, identity.world_size)
        if rank == min(run.present) and said != (run.tags, run.world_size):
            run = replace(run, tags=dict(identity.tags), world_size=identity.world_size)
    return replace(run, received_at=now) if is_stale(run.received_at, now) else run


def is_stale(received_at: float, now: float) -> bool:
    """Whether it has to be noted again that something was received.

    Not with every record: what else is known of a run and its processes seldom changes.
    """
    return abs(now - received_at) >= RECEIVED_SECONDS


def begin(
    run: RunRecord, process: ProcessRecord, time_ns: int, now: float
) -> tuple[RunRecord, ProcessRecord]:
    """A process started; when its rank had started before, the run has been started again."""
    if time_ns <= process.start_ns:
        return run, process
    again = process.start_ns > 0 or process.rank in run.endings
    process = replace(process, start_ns=time_ns)
    if not again:
        return run, process
    # What ended after this start, by the jobs' clocks, belongs to the new try already.
    left = {rank: ending for rank, ending in run.endings.items() if ending.time_ns > time_ns}
    if len(left) < len(run.endings):
        run = _reopen(run, left, now)
        run = replace(run, present=run.present | {process.rank})
    return run, process


def end(run: RunRecord, process: ProcessRecord, event: Event, now: float) -> RunRecord:
    """A process ended, and said how; a late word of an earlier one is not heard."""
    if event.time_ns < process.start_ns:
        return run
    status = cast("Status", event.attributes[names.STATUS])
    ending = Ending(status=status, time_ns=event.time_ns)
    run = replace(run, endings={**run.endings, process.rank: ending})
    if status == "failed":
        run = fail(run, event)
    return _settle(run, now)


def fail(run: RunRecord, event: Event) -> RunRecord:
    """An exception was reported."""
    kind = event.attributes.get(names.EXCEPTION_TYPE)
    message = event.attributes.get(names.EXCEPTION_MESSAGE)
    if kind is None and message is None:
        return run
    failure = Failure(type=_short(kind), message=_short(message))
    return replace(run, failure=failure)


def report(process: ProcessRecord, event: Event) -> ProcessRecord:
    """A recorder reported its own counters, which begin at 0 with every process."""
    if event.time_ns < process.health_ns:
        return process
    dropped = event.attributes.get(names.DROPPED_STEPS)
    overhead = event.attributes.get(names.OVERHEAD)
    process = replace(process, health_ns=event.time_ns)
    if isinstance(dropped, int):
        dropped = min(dropped, _MOST_DROPPED)
        before = process.dropped_before
        if dropped < process.dropped:
            before = min(before + process.dropped, _MOST_DROPPED)
        process = replace(process, dropped_before=before, dropped=dropped)
    if isinstance(overhead, float) and math.isfinite(overhead):
        process = replace(process, overhead_seconds=overhead)
    return process


def state_of(
    run: RunRecord,
    *,
    silent_seconds: float,
    idle_seconds: float | None,
    usual_seconds: float,
    lost_after_seconds: float,
    stall_floor_seconds: float,
) -> State:
    """What the run is doing.

    Args:
        run: the run.
        silent_seconds: time since anything was received.
        idle_seconds: time since a new step was received; nothing before the first, which may take
            long for good reasons.
        usual_seconds: the run's own median time from one reported step to the next, 0 if unknown.
        lost_after_seconds: longest silence of a live run.
        stall_floor_seconds: shortest time after which a run is called stalled.
    """
    if run.status is not None:
        return run.status
    if silent_seconds > lost_after_seconds:
        return "lost"
    patience_seconds = max(stall_floor_seconds, STALLED_INTERVALS * usual_seconds)
    if idle_seconds is not None and idle_seconds > patience_seconds:
        return "stalled"
    return "running"


def _short(text: AttributeValue | None) -> str:
    return str("" if text is None else text)[:_LONGEST_TEXT]


def _reopen(run: RunRecord, endings: Mapping[int, Ending], now: float) -> RunRecord:
    run = replace(run, endings=endings, present=frozenset(endings), reopened_at=now, failure=None)
    return _settle(run, now)


def _settle(run: RunRecord, now: float) -> RunRecord:
    """Notes when the run became as it is."""
    ended = run.status is not None
    if ended == (run.ended_at is not None):
        return run
    return replace(run, ended_at=now if ended else None)
