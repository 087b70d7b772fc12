"""Small blocks made large while steps come in, and when none are expected any more."""

import logging
import sqlite3
import threading
from collections.abc import Iterable
from typing import Final

from penaltyscope_service.aggregate import take_snapshot
from penaltyscope_service.history import BLOCK_ROWS, Changes, DamagedError, History
from penaltyscope_service.registry import Registry, TrackedStream

_logger: Final = logging.getLogger(__name__)


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
        for stream in streams:
            if not stream.loose:
                continue
            with self._lock:
                stream.fold()
                aggregate = take_snapshot(stream.aggregate)
            newest = next(reversed(stream.loose))
            places = {place: final or place != newest for place in stream.loose}
            try:
                stream.loose = self._history.pack(stream.row.id, places, aggregate)
            except (OSError, sqlite3.Error, DamagedError) as error:
                # Nothing is lost: what was acknowledged is there, only in small blocks.
                _logger.error("blocks of stream %d cannot be packed: %s", stream.row.id, error)
