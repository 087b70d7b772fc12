"""Batches taken in, written down, and only then known: the way of every step."""

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from penaltyscope_service.decode import Batch
from penaltyscope_service.history import DamagedError, History, is_damage
from penaltyscope_service.intake import Intake
from penaltyscope_service.packing import Packer
from penaltyscope_service.registry import Registry

_FAULT_SECONDS: Final = 30.0
"""Longer than clients wait before they send again what could not be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the batches of one call."""

    new_steps: int
    duplicates: int
    refused: Mapping[str, int] = field(default_factory=dict)
    """Records that cannot be kept, per reason."""


class _Fault(NamedTuple):
    """Why steps could not be written the last time."""

    at: float
    reason: str
    is_damage: bool


class Keeper:
    """Used by one thread at a time, the one that may write; anyone may check it."""

    def __init__(
        self,
        history: History,
        registry: Registry,
        *,
        packer: Packer,
        gap_seconds: float,
        lock: threading.Lock,
        clock: Callable[[], float],
    ) -> None:
        self._history = history
        self._registry = registry
        self._packer = packer
        self._gap_seconds = gap_seconds
        self._lock = lock
        self._clock = clock
        self._fault: _Fault | None = None

    def keep(self, batches: Sequence[Batch]) -> Outcome:
        """Keeps what is new; durable when it returns, and nothing has changed when it raises."""
        intake = Intake(
            self._registry,
            self._history.graves,
            now=self._clock(),
            gap_seconds=self._gap_seconds,
        )
        for batch in batches:
            intake.take(batch)
        changes = intake.changes()
        try:
            incidents = self._history.commit(changes)
        except (OSError, sqlite3.Error) as error:
            self._fault = _Fault(self._clock(), str(error), is_damage(error))
            raise
        self._fault = None
        with self._lock:
            self._registry.enter(changes)
            self._registry.enter_sources(changes.advanced)
            self._registry.enter_blocks(changes.blocks)
            for incident in incidents:
                self._registry.enter_incidents(incident.run, incident.kind, 1)
        self._packer.after(changes)
        return Outcome(
            new_steps=intake.new_steps, duplicates=intake.duplicates, refused=intake.refused
        )

    def check(self) -> None:
        """Raises when the history cannot be written, or could not a moment ago."""
        fault = self._fault
        if fault is not None and fault.is_damage:
            raise DamagedError(
                f"the file is damaged ({fault.reason}); when the service is started again, "
                "it puts the file aside and saves what can be read."
            )
        # What fits a probe may not fit a request; but who is not asked any more must come back.
        if fault is not None and self._clock() - fault.at < _FAULT_SECONDS:
            raise OSError(fault.reason)
        self._history.probe(self._clock())
