"""Everything that is in memory about runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from penaltyscope_service.aggregate import StreamAggregate
from penaltyscope_service.history import (
    BLOCK_ROWS,
    Changes,
    KeptBlock,
    Loaded,
    NewBlock,
    Place,
    SourceRow,
    StreamRow,
    unite,
)
from penaltyscope_service.states import ProcessRecord, RunRecord

_MOST_WAITING_ROWS: Final = 2 * BLOCK_ROWS
_MOST_WAITING_IN_ALL: Final = 2**18
"""Evaluations that may wait to be aggregated, of one stream and of all together."""


@dataclass(slots=True)
class TrackedStream:
    """One pipeline on one rank.

    Evaluations wait to be aggregated until someone looks, or a large block of the history is made
    of them: adding a thousand costs little more than adding one.
    """

    row: StreamRow
    window_seconds: float
    aggregate: StreamAggregate = field(default_factory=StreamAggregate.empty)
    sources: dict[str, SourceRow] = field(default_factory=dict)
    """By incarnation."""
    loose: dict[Place, int] = field(default_factory=dict)
    """Evaluations in small blocks of the history, by place."""
    waiting: list[KeptBlock] = field(default_factory=list)
    waiting_rows: int = 0

    def append(self, block: KeptBlock) -> None:
        """Adds evaluations."""
        self.waiting.append(block)
        self.waiting_rows += len(block.step)
        if self.waiting_rows >= _MOST_WAITING_ROWS:
            self.fold()

    def fold(self) -> list[NewBlock]:
        """Aggregates what waits; returns it in as few blocks as have the same result."""
        waiting, self.waiting, self.waiting_rows = self.waiting, [], 0
        folded = [_unite(group) for group in _groups(waiting, self.window_seconds)]
        for _, received_at, steps in folded:
            period = int(received_at // self.window_seconds)
            self.aggregate.add(steps, received_at=received_at, period=period)
        return folded


@dataclass(slots=True)
class TrackedRun:
    """One run."""

    record: RunRecord
    processes: dict[int, ProcessRecord] = field(default_factory=dict)
    """By rank."""
    streams: dict[tuple[int, str], TrackedStream] = field(default_factory=dict)
    """By rank and pipeline, in order of appearance."""
    by_rank: dict[int, list[TrackedStream]] = field(default_factory=dict)
    """The same by rank."""
    incidents: Counter[str] = field(default_factory=Counter)
    """By kind."""

    @property
    def pipelines(self) -> tuple[str, ...]:
        """In order of appearance."""
        return tuple(dict.fromkeys(pipeline for _, pipeline in self.streams))

    def of_pipeline(self, pipeline: str) -> dict[int, TrackedStream]:
        """The streams of a pipeline by rank, the lowest first."""
        found = {rank: s for (rank, name), s in self.streams.items() if name == pipeline}
        return dict(sorted(found.items()))

    def of_rank(self, rank: int) -> Sequence[TrackedStream]:
        """The streams of a rank, in order of appearance."""
        return self.by_rank.get(rank, ())

    def enter_stream(self, stream: TrackedStream) -> None:
        """Adds a stream."""
        self.streams[stream.row.rank, stream.row.pipeline] = stream
        self.by_rank.setdefault(stream.row.rank, []).append(stream)


@dataclass(slots=True)
class Registry:
    """All runs."""

    window_seconds: float
    numbers: Iterator[int]
    """Numbers for new runs, streams, sources and term lists."""
    runs: dict[str, TrackedRun] = field(default_factory=dict)
    """By id, in order of appearance."""
    streams: dict[int, TrackedStream] = field(default_factory=dict)
    """By number."""
    terms: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The numbers of lists of terms."""
    _by_number: dict[int, TrackedRun] = field(default_factory=dict)
    _waiting: dict[int, TrackedStream] = field(default_factory=dict)
    """Streams in which evaluations may wait."""
    _waiting_rows: int = 0
    """How many have come since nobody looked."""

    def enter(self, rows: Loaded | Changes) -> None:
        """Adds what was read from or written to the history, or replaces what was there."""
        for record in rows.runs:
            self._enter_run(record)
        for process in rows.processes:
            self._by_number[process.run].processes[process.rank] = process
        for row in rows.streams:
            stream = TrackedStream(row, self.window_seconds)
            self.streams[row.id] = stream
            self._by_number[row.run].enter_stream(stream)
        self.enter_sources(rows.sources)
        for terms in rows.terms:
            self.terms[terms.names] = terms.id

    def enter_sources(self, sources: Iterable[SourceRow]) -> None:
        """Replaces what was known of how far they have come."""
        for source in sources:
            self.streams[source.stream].sources[source.incarnation] = source

    def enter_blocks(self, blocks: Iterable[KeptBlock]) -> None:
        """Adds steps."""
        for block in blocks:
            place, rows = block.place, len(block.step)
            stream = self.streams[place.stream]
            stream.loose[place] = stream.loose.get(place, 0) + rows
            stream.append(block)
            self._waiting[place.stream] = stream
            self._waiting_rows += rows
        if self._waiting_rows >= _MOST_WAITING_IN_ALL:
            for stream in self.take_waiting():
                stream.fold()

    def take_waiting(self) -> Sequence[TrackedStream]:
        """The streams that the caller has to fold before it can tell what they are."""
        waiting = tuple(self._waiting.values())
        self._waiting.clear()
        self._waiting_rows = 0
        return waiting

    def enter_incidents(self, run: int, kind: str, count: int) -> None:
        """Counts incidents."""
        self._by_number[run].incidents[kind] += count

    def remove(self, run: TrackedRun) -> None:
        """Forgets a run."""
        del self.runs[run.record.run], self._by_number[run.record.id]
        for stream in run.streams.values():
            del self.streams[stream.row.id]
            self._waiting.pop(stream.row.id, None)

    def _enter_run(self, record: RunRecord) -> None:
        if record.run in self.runs:
            self.runs[record.run].record = record
        else:
            self.runs[record.run] = self._by_number[record.id] = TrackedRun(record)


def _unite(group: Sequence[KeptBlock]) -> NewBlock:
    return NewBlock(group[-1].place, group[-1].received_at, unite(group))


def _groups(waiting: Iterable[KeptBlock], window_seconds: float) -> Iterator[list[KeptBlock]]:
    """Blocks that may be added as one with the same result."""
    group: list[KeptBlock] = []
    for block in waiting:
        if group and not _continues(group[-1], block, window_seconds):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _continues(last: KeptBlock, block: KeptBlock, window_seconds: float) -> bool:
    return (
        block.place == last.place
        and block.received_at // window_seconds == last.received_at // window_seconds
        # Otherwise the time of the last progress would be lost.
        and bool(block.seq[0] > last.seq[-1])
        and bool(block.step[-1] > last.step[-1])
    )
