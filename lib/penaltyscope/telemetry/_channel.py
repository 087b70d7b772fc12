"""What a recorder needs of the way out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penaltyscope_events import Event, PlainSteps, StepBlock

Trace = tuple[bytes, bytes] | None
"""Trace id (16 bytes) and span id (8 bytes) of the span that was current, if one was."""


@dataclass(slots=True)
class Steps:
    """Some steps, and the span that each of them belongs to."""

    made: StepBlock | PlainSteps
    traces: tuple[Trace, ...]
    sampled: tuple[bool, ...] = ()
    """Whether that span is kept; true for a step without one. Empty when nothing is known."""

    @property
    def block(self) -> StepBlock:
        """The steps as columns."""
        if isinstance(self.made, PlainSteps):
            self.made = self.made.block()
        return self.made


class Channel(Protocol):
    """Takes batches towards their destination; used by the recorder's thread alone."""

    @property
    def lost_steps(self) -> int:
        """Steps that were given up since the start."""

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Takes one batch, in order; does not wait for the destination."""

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until everything taken has arrived; false if it has not within the time."""

    def close(self, timeout_seconds: float) -> None:
        """Flushes and ends; what has not arrived in time is given up."""
