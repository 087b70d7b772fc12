"""What was in memory, made again from the history."""

import logging
from dataclasses import replace
from itertools import count
from typing import Final

from penaltyscope_events import StepBlock
from penaltyscope_service.aggregate import SnapshotError, restore_snapshot
from penaltyscope_service.history import History, keep
from penaltyscope_service.registry import Registry, TrackedStream

_logger: Final = logging.getLogger(__name__)


def restore(history: History, window_seconds: float) -> Registry:
    """A registry as it was when the last transaction was written."""
    loaded = history.load()
    registry = Registry(window_seconds, count(loaded.highest + 1))
    registry.enter(loaded)
    for place, rows in loaded.loose.items():
        if place.stream in registry.streams:  # not of a run that was deleted
            registry.streams[place.stream].loose[place] = rows
    for (run, kind), incidents in loaded.incidents.items():
        registry.enter_incidents(run, kind, incidents)
    for stream in registry.streams.values():
        _aggregate(history, stream)
    return registry


def _aggregate(history: History, stream: TrackedStream) -> None:
    """Continues the stored aggregate with the blocks that came after it was stored."""
    snapshot, through = history.load_aggregate(stream.row.id)
    if snapshot is not None:
        try:
            stream.aggregate = restore_snapshot(snapshot)
        except SnapshotError as error:
            _logger.info("stream %d is aggregated anew: %s", stream.row.id, error)
            through = 0
    for block in history.load_steps(stream.row, through):
        stream.append(keep(block))
        _advance(stream, block.steps)
    stream.fold()


def _advance(stream: TrackedStream, steps: StepBlock) -> None:
    """A source that only goes on is not written with every block."""
    source = stream.sources[steps.incarnation]
    high = max(source.ledger.high, int(steps.seq.max()) + 1)
    ledger = replace(source.ledger, high=high)
    stream.sources[steps.incarnation] = source._replace(ledger=ledger)
