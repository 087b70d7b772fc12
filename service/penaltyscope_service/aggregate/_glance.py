"""What a list of runs shows of evaluations that are not aggregated yet."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.aggregate._finding import first_finding
from penaltyscope_service.aggregate._stream import StreamAggregate


class Arrival(Protocol):
    """Evaluations, of whose columns only these are looked at unless one is not finite."""

    @property
    def received_at(self) -> float:
        """Unix time in seconds."""

    @property
    def incarnation(self) -> str:
        """Of their recorder."""

    @property
    def step(self) -> NDArray[np.int64]:
        """``[N]``, as are the next two: columns of a block."""

    @property
    def seq(self) -> NDArray[np.int64]:
        """A column."""

    @property
    def stop_ns(self) -> NDArray[np.int64]:
        """A column."""

    @property
    def nonfinite_rows(self) -> int:
        """Evaluations with any number that is not finite."""


AnyArrival = TypeVar("AnyArrival", bound=Arrival)


def glance(
    aggregate: StreamAggregate,
    arrivals: Iterable[AnyArrival],
    read: Callable[[AnyArrival], StepBlock],
) -> StreamAggregate:
    """The aggregate as if evaluations had been added, at a tenth of the cost.

    True are only the counts of steps, the first finding, the last step, when it came, and how long
    steps take; the rest is as it was before. The aggregate itself does not change.

    Args:
        aggregate: what has been added before.
        arrivals: the evaluations, in order of arrival.
        read: all columns of them.
    """
    seen = replace(
        aggregate,
        incarnations=list(aggregate.incarnations),
        intervals=replace(aggregate.intervals, seconds=aggregate.intervals.seconds.copy()),
    )
    for incarnation, group in groupby(arrivals, key=attrgetter("incarnation")):
        alike = list(group)
        for arrival in alike:
            seen.steps += len(arrival.step)
            if arrival.nonfinite_rows:
                _count_nonfinite(seen, arrival.nonfinite_rows, read(arrival))
        _follow(seen, incarnation, alike)
    return seen


def _count_nonfinite(seen: StreamAggregate, rows: int, block: StepBlock) -> None:
    seen.nonfinite_steps += rows
    found = first_finding(block)
    seen.first = found if seen.first is None else min(found, seen.first)


def _follow(seen: StreamAggregate, incarnation: str, arrivals: Sequence[Arrival]) -> None:
    """Moves on as far as the newest recorder has come; late ones of earlier lives are not new."""
    if incarnation not in seen.incarnations:
        seen.incarnations.append(incarnation)
        seen.last_seq = seen.last_step = -1
        seen.intervals.forget_step()
    if incarnation != seen.incarnations[-1]:
        return
    seen.intervals.observe(
        np.concatenate([arrival.step for arrival in arrivals]),
        np.concatenate([arrival.stop_ns for arrival in arrivals]),
    )
    for arrival in arrivals:
        latest = int(arrival.seq.argmax())
        if arrival.seq[latest] > seen.last_seq:
            seen.last_seq, step = int(arrival.seq[latest]), int(arrival.step[latest])
            if step != seen.last_step:
                seen.last_step, seen.progress_at = step, arrival.received_at
