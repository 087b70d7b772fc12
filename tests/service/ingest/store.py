"""A store that keeps batches in memory, or fails as it is told to."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from penaltyscope_service.decode import Batch


@dataclass
class MemoryStore:
    """Stands in for the history where a test needs it to fail or to take its time."""

    batches: list[Batch] = field(default_factory=list)
    calls: int = 0
    error: Exception | None = None
    poison: str = ""
    """The run that a defect strikes."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Nothing is kept until it is set."""

    def __post_init__(self) -> None:
        self.gate.set()

    def ingest(self, batches: Sequence[Batch], /) -> None:
        """Keeps the batches, or raises what it was told to."""
        self.gate.wait()
        self.calls += 1
        if self.error is not None:
            raise self.error
        if any(batch.identity.run_id == self.poison for batch in batches):
            raise ZeroDivisionError("a defect")
        self.batches += batches

    @property
    def steps(self) -> int:
        """Steps kept."""
        return sum(len(block) for batch in self.batches for block in batch.steps)
