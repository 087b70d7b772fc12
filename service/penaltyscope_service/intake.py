"""What a group of batches would change: worked out before anything is changed."""

import json
from collections import Counter
from dataclasses import replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import Event, RunIdentity, StepBlock, names
from penaltyscope_service.decode import Batch
from penaltyscope_service.dedupe import MAX_SEQ, Ledger, admit, advance
from penaltyscope_service.history import (
    Changes,
    Graves,
    Incident,
    NewBlock,
    Place,
    SourceRow,
    StreamRow,
    TermsRow,
    keep,
)
from penaltyscope_service.joining import join
from penaltyscope_service.registry import Registry
from penaltyscope_service.states import (
    ProcessRecord,
    RunRecord,
    begin,
    end,
    fail,
    hear,
    is_stale,
    report,
)

MAX_GAPS: Final = 1024
"""Gaps that are remembered of one source."""


class Intake:
    """Takes batches; the registry stays as it is."""

    def __init__(
        self, registry: Registry, graves: Graves, *, now: float, gap_seconds: float
    ) -> None:
        self._registry = registry
        self._graves = graves
        self._now = now
        self._gap_seconds = gap_seconds
        self._runs: dict[str, RunRecord] = {}
        self._processes: dict[tuple[int, int], ProcessRecord] = {}
        self._streams: dict[tuple[int, int, str], StreamRow] = {}
        self._sources: dict[tuple[int, str], SourceRow] = {}
        self._changed: set[int] = set()
        """Sources that are new, or of which more is to be told than that they went on."""
        self._terms: dict[tuple[str, ...], int] = {}
        self._blocks: dict[Place, list[StepBlock]] = {}
        self._incidents: list[Incident] = []
        self.new_steps = 0
        self.duplicates = 0
        self.refused: Counter[str] = Counter()

    def take(self, batch: Batch) -> None:
        """Adds what one process of one run sent."""
        if self._is_of_the_dead(batch):
            self.duplicates += sum(map(len, batch.steps))
            return
        identity, now = batch.identity, self._now
        known_run = self._known_run(identity.run_id)
        run = hear(known_run or self._new_run(identity), identity, now)
        known_process = self._known_process(run, identity.rank)
        process = known_process or ProcessRecord(run=run.id, rank=identity.rank, received_at=now)
        before = self.duplicates
        run, process = self._take_records(run, process, batch)
        duplicates = process.duplicates + self.duplicates - before
        if duplicates > process.duplicates or is_stale(process.received_at, now):
            process = replace(process, received_at=now, duplicates=duplicates)
        if run is not known_run:
            self._runs[run.run] = run
        if process is not known_process:
            self._processes[run.id, process.rank] = process

    def changes(self) -> Changes:
        """What is to be written."""
        return Changes(
            runs=list(self._runs.values()),
            processes=list(self._processes.values()),
            streams=list(self._streams.values()),
            sources=[s for s in self._sources.values() if s.id in self._changed],
            advanced=[s for s in self._sources.values() if s.id not in self._changed],
            terms=[TermsRow(number, terms) for terms, number in self._terms.items()],
            blocks=[keep(NewBlock(place, self._now, join(b))) for place, b in self._blocks.items()],
            incidents=self._incidents,
        )

    def _is_of_the_dead(self, batch: Batch) -> bool:
        """Whether it is of a deleted run, and nothing in it shows that the run goes on."""
        identity = batch.identity
        if identity.run_id in self._runs or identity.run_id in self._registry.runs:
            return False
        attempt = self._graves.attempt(identity.run_id)
        if attempt is None or identity.attempt > attempt:
            return False
        return not any(
            (
                block.seq
                >= self._graves.high(
                    identity.run_id, identity.rank, block.pipeline, block.incarnation
                )
            ).any()
            for block in batch.steps
        )

    def _known_run(self, run_id: str) -> RunRecord | None:
        known = self._runs.get(run_id)
        if known is not None:
            return known
        tracked = self._registry.runs.get(run_id)
        return tracked.record if tracked is not None else None

    def _new_run(self, identity: RunIdentity) -> RunRecord:
        return RunRecord(
            id=next(self._registry.numbers),
            run=identity.run_id,
            started_at=self._now,
            received_at=self._now,
            reopened_at=self._now,
            attempt=identity.attempt,
            world_size=identity.world_size,
            tags=dict(identity.tags),
        )

    def _known_process(self, run: RunRecord, rank: int) -> ProcessRecord | None:
        known = self._processes.get((run.id, rank))
        if known is not None:
            return known
        tracked = self._registry.runs.get(run.run)
        return tracked.processes.get(rank) if tracked is not None else None

    def _stream(self, run: RunRecord, rank: int, pipeline: str) -> StreamRow:
        tracked = self._registry.runs.get(run.run)
        if tracked is not None and (rank, pipeline) in tracked.streams:
            return tracked.streams[rank, pipeline].row
        key = (run.id, rank, pipeline)
        if key not in self._streams:
            self._streams[key] = StreamRow(next(self._registry.numbers), *key)
        return self._streams[key]

    def _source(self, run: RunRecord, stream: StreamRow, incarnation: str) -> SourceRow:
        known = self._sources.get((stream.id, incarnation))
        if known is not None:
            return known
        tracked = self._registry.streams.get(stream.id)
        if tracked is not None and incarnation in tracked.sources:
            return tracked.sources[incarnation]
        high = self._graves.high(run.run, stream.rank, stream.pipeline, incarnation)
        number = next(self._registry.numbers)
        self._changed.add(number)
        return SourceRow(number, stream.id, incarnation, Ledger(high=high))

    def _number_of(self, terms: tuple[str, ...]) -> int:
        known = self._registry.terms.get(terms) or self._terms.get(terms)
        if known is None:
            known = self._terms[terms] = next(self._registry.numbers)
        return known

    def _is_new_life(self, run: RunRecord, process: ProcessRecord, block: StepBlock) -> bool:
        """Whether a rank that had ended is back, though its start was not received."""
        if process.rank not in run.endings:
            return False
        tracked = self._registry.runs.get(run.run)
        known = [s.sources for s in tracked.of_rank(process.rank)] if tracked else []
        here = any(incarnation == block.incarnation for _, incarnation in self._sources)
        return not here and not any(block.incarnation in sources for sources in known)

    def _take_records(
        self, run: RunRecord, process: ProcessRecord, batch: Batch
    ) -> tuple[RunRecord, ProcessRecord]:
        # The last words of an earlier try are too late.
        heeded = batch.identity.attempt == run.attempt
        for block in batch.steps:
            if heeded and self._is_new_life(run, process, block):
                run, process = begin(run, process, int(block.start_ns[0]), self._now)
            self._take_steps(run, process, block)
        for event in batch.events:
            new = self._is_new(run, process, event)
            process = report(process, event)
            if heeded and new:
                run, process = _heed(run, process, event, self._now)
        return run, process

    def _take_steps(self, run: RunRecord, process: ProcessRecord, block: StepBlock) -> None:
        stream = self._stream(run, process.rank, block.pipeline)
        source = self._source(run, stream, block.incarnation)
        ahead = advance(source.ledger, block.seq) if len(block) else None
        if ahead is None:
            block = self._sift(source, block)
        else:
            self._sources[stream.id, block.incarnation] = source._replace(ledger=ahead)
        if len(block):
            place = Place(stream.id, source.id, self._number_of(block.terms))
            self._blocks.setdefault(place, []).append(block)
            self.new_steps += len(block)

    def _sift(self, source: SourceRow, block: StepBlock) -> StepBlock:
        """The evaluations that can be counted and are new."""
        countable = block.seq <= MAX_SEQ
        if not countable.all():
            self.refused["invalid_value"] += int((~countable).sum())
            block = block.take(countable)
        return block.take(self._admit(source, block.seq)) if len(block) else block

    def _admit(self, source: SourceRow, seq: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the numbers are new."""
        ledger, new = admit(
            source.ledger,
            seq,
            now=self._now,
            gap_seconds=self._gap_seconds,
            max_gaps=MAX_GAPS,
        )
        self._sources[source.stream, source.incarnation] = source._replace(ledger=ledger)
        self._changed.add(source.id)
        self.duplicates += len(seq) - int(new.sum())
        return new

    def _is_new(self, run: RunRecord, process: ProcessRecord, event: Event) -> bool:
        """Whether the event was not received before, as far as that can be told."""
        if event.name == names.PIPELINE_EXCEPTION:
            return self._is_new_exception(run, process, event)
        if event.name == names.INCIDENT:
            kind = str(event.attributes.get(names.INCIDENT_KIND, "unknown"))
            attributes = json.dumps(dict(event.attributes))  # orjson would make NaN null
            self._incidents.append(Incident(run.id, process.rank, event.time_ns, kind, attributes))
        return True

    def _is_new_exception(self, run: RunRecord, process: ProcessRecord, event: Event) -> bool:
        """An evaluation that raised has a number among those that did not."""
        attributes = event.attributes
        seq = cast("int", attributes[names.SEQ])
        if seq > MAX_SEQ:
            self.refused["invalid_value"] += 1
            return False
        stream = self._stream(run, process.rank, cast("str", attributes[names.PIPELINE]))
        incarnation = cast("str", attributes[names.INCARNATION])
        source = self._source(run, stream, incarnation)
        return bool(self._admit(source, np.array([seq]))[0])


def _heed(
    run: RunRecord, process: ProcessRecord, event: Event, now: float
) -> tuple[RunRecord, ProcessRecord]:
    """What an event changes in the life of its run."""
    match event.name:
        case names.RUN_START:
            return begin(run, process, event.time_ns, now)
        case names.RUN_END:
            return end(run, process, event, now), process
        case names.PIPELINE_EXCEPTION:
            return fail(run, event), process
    return run, process
