"""How a run is: whether it moves, how fast, and what state that makes."""

import math
from dataclasses import dataclass

from penaltyscope_service.registry import TrackedRun
from penaltyscope_service.states import RECEIVED_SECONDS, Uptime, state_of
from penaltyscope_service.summary import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a run, in seconds."""

    lost_after_seconds: float
    stall_floor_seconds: float
    terminal_grace_seconds: float


@dataclass(frozen=True, slots=True)
class Watchman:
    """Tells the state of runs."""

    patience: Patience
    uptime: Uptime

    def state(self, run: TrackedRun, now: float) -> State:
        """What the run is doing at a moment."""
        record = run.record
        progress_at = max((s.aggregate.progress_at for s in run.streams.values()), default=0.0)
        moved = progress_at >= record.reopened_at
        return state_of(
            record,
            silent_seconds=self.uptime.since(record.received_at, now),
            idle_seconds=self.uptime.since(progress_at, now) if moved else None,
            usual_seconds=report_seconds(run) or 0.0,
            lost_after_seconds=self._lost_after_seconds,
            stall_floor_seconds=self.patience.stall_floor_seconds,
        )

    def is_live(self, run: TrackedRun, now: float) -> bool:
        """Whether a run is under way, stalled or not; quickly told of thousands."""
        silent_seconds = self.uptime.since(run.record.received_at, now)
        return run.record.status is None and silent_seconds <= self._lost_after_seconds

    def is_over(self, run: TrackedRun, now: float) -> bool:
        """Whether a run ended, or was lost, so long ago that its series end."""
        record = run.record
        if record.ended_at is not None:
            return now - record.ended_at > self.patience.terminal_grace_seconds
        lost_seconds = self.uptime.since(record.received_at, now) - self.patience.lost_after_seconds
        return lost_seconds > self.patience.terminal_grace_seconds

    @property
    def _lost_after_seconds(self) -> float:
        # When it was heard of is known to a second: it is not called lost too early.
        return self.patience.lost_after_seconds + RECEIVED_SECONDS


def report_seconds(run: TrackedRun) -> float | None:
    """Median time from one reported step to the next, of the most frequent pipeline."""
    return _least_median(run, 0)


def step_seconds(run: TrackedRun) -> float | None:
    """Median time of a step."""
    return _least_median(run, 1)


def last_step(run: TrackedRun, rank: int | None = None) -> int | None:
    """The step that a rank, or the run, has reached since it was last started."""
    streams = run.streams.values() if rank is None else run.of_rank(rank)
    moved = [s.aggregate for s in streams if s.aggregate.last_step >= 0]
    current = [a for a in moved if a.progress_at >= run.record.reopened_at]
    return max((a.last_step for a in current or moved), default=None)


def _least_median(run: TrackedRun, kind: int) -> float | None:
    """Over the pipelines of the lowest rank that has any."""
    lowest = min(run.by_rank, default=0)
    medians = [s.aggregate.intervals.median.item(kind) for s in run.of_rank(lowest)]
    return min([median for median in medians if not math.isnan(median)], default=None)
