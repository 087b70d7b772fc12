"""The library's own lines of JSON, so that what was exported can be imported."""

import json
from collections.abc import Iterator
from dataclasses import replace

from penaltyscope_events import AttributeValue, Event, RunIdentity, names
from penaltyscope_events.jsonl import event_lines, step_lines
from penaltyscope_service.history import Archive
from penaltyscope_service.states import ProcessRecord


def export_jsonl(run: Archive) -> Iterator[bytes]:
    """Starts, then steps, then what each process reported last and how it ended."""
    record = run.record
    anyone = RunIdentity(
        run_id=record.run,
        attempt=record.attempt,
        world_size=record.world_size,
        tags=record.tags,
    )
    for process in run.processes:
        if process.start_ns:
            start = Event(name=names.RUN_START, time_ns=process.start_ns)
            yield event_lines(replace(anyone, rank=process.rank), [start])
    for stream in run.streams:
        for block in run.steps(stream):
            yield step_lines(replace(anyone, rank=stream.rank), block)
    for process in run.processes:
        identity = replace(anyone, rank=process.rank)
        yield event_lines(identity, [*_reports(process), *_incidents(run, process.rank)])
    for rank, event in _endings(run):
        yield event_lines(replace(anyone, rank=rank), [event])


def _reports(process: ProcessRecord) -> Iterator[Event]:
    """Heartbeats after which the same counters are known: a smaller one means another process."""
    if not process.health_ns:
        return
    last: dict[str, AttributeValue] = {names.DROPPED_STEPS: process.dropped}
    if process.overhead_seconds is not None:
        last[names.OVERHEAD] = process.overhead_seconds
    earlier: list[dict[str, AttributeValue]] = []
    if process.dropped_before:
        earlier = [{names.DROPPED_STEPS: process.dropped_before}, {names.DROPPED_STEPS: 0}]
    first_ns = max(process.health_ns - len(earlier), 0)
    for i, attributes in enumerate([*earlier, last]):
        yield Event(name=names.RUN_HEARTBEAT, time_ns=first_ns + i, attributes=attributes)


def _incidents(run: Archive, rank: int) -> Iterator[Event]:
    for incident in run.incidents:
        if incident.rank == rank:
            given = json.loads(incident.attributes)
            attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            yield Event(name=names.INCIDENT, time_ns=incident.time_ns, attributes=attributes)


def _endings(run: Archive) -> Iterator[tuple[int, Event]]:
    failure = run.record.failure
    for rank, ending in run.record.endings.items():
        attributes: dict[str, AttributeValue] = {names.STATUS: ending.status}
        if failure is not None and ending.status == "failed":
            attributes[names.EXCEPTION_TYPE] = failure.type
            attributes[names.EXCEPTION_MESSAGE] = failure.message
        yield rank, Event(name=names.RUN_END, time_ns=ending.time_ns, attributes=attributes)
