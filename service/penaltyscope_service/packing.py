"""Small blocks made large while steps come in, and when none are expected any more."""

import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from penaltyscope_service.aggregate import take_snapshot
from penaltyscope_service.history import (
    BLOCK_ROWS,
    Changes,
    DamagedError,
    History,
    NewBlock,
    Packing,
    Place,
    cut,
)
from penaltyscope_service.joining import join
from penaltyscope_service.registry import Registry, TrackedStream

_logger: Final = logging.getLogger(__name__)

_STREAMS: Final = 16
"""Most that are packed in one transaction."""


class Packer:
    """Used by one thread at a time, the one that may write."""

    def __init__(self, history: History, registry: Registry, lock: threading.Lock) -> None:
        self._history = history
        self._registry = registry
        self._lock = lock

    def after(self, changes: Changes) -> None:
        """Packs what has become enough for a block, or will not grow any more."""
        touched = {place.stream: place for place, *_ in changes.blocks}
        streams = [self._registry.streams[number] for number in touched]
        full = [s for s in streams if max(s.loose.values(), default=0) >= BLOCK_ROWS]
        self.pack(full, final=False)
        for record in changes.runs:
            if record.ended_at is not None:
                self.pack(self._registry.runs[record.run].streams.values(), final=True)

    def pack(self, streams: Iterable[TrackedStream], *, final: bool) -> None:
        """Packs small blocks; also the rest, when ``final``."""
        loose = [stream for stream in streams if stream.loose]
        for start in range(0, len(loose), _STREAMS):
            group = loose[start : start + _STREAMS]
            self._write(group, [self._prepare(stream, final) for stream in group])

    def _prepare(self, stream: TrackedStream, final: bool) -> Packing:
        with self._lock:
            folded = stream.fold()
            aggregate = take_snapshot(stream.aggregate)
        newest = next(reversed(stream.loose))
        loose = {place.source for place in stream.loose}
        places = {place: final or place != newest for place in stream.loose}
        # Not when they are written, after those of all streams: here the numbers are in the cache.
        known = {
            block.place: cut(block, final=places[block.place])
            for block in _complete(folded, stream.loose)
        }
        return Packing(
            stream=stream.row.id,
            places=places,
            aggregate=aggregate,
            sources=[source for source in stream.sources.values() if source.id in loose],
            known=known,
        )

    def _write(self, streams: Sequence[TrackedStream], packings: Sequence[Packing]) -> None:
        try:
            left = self._history.pack(packings)
        except (OSError, sqlite3.Error, DamagedError) as error:
            if len(streams) == 1:
                # Nothing is lost: what was acknowledged is there, only in small blocks.
                _logger.error("blocks of stream %d cannot be packed: %s", streams[0].row.id, error)
                return
            for stream, packing in zip(streams, packings, strict=True):
                self._write([stream], [packing])
            return
        for stream, loose in zip(streams, left, strict=True):
            stream.loose = loose


def _complete(blocks: Iterable[NewBlock], loose: Mapping[Place, int]) -> list[NewBlock]:
    """What lies at the places of which the blocks are everything."""
    by_place: dict[Place, list[NewBlock]] = {}
    for block in blocks:
        by_place.setdefault(block.place, []).append(block)
    return [
        NewBlock(place, max(b.received_at for b in found), join([b.steps for b in found]))
        for place, found in by_place.items()
        if sum(len(b.steps) for b in found) == loose[place]
    ]
