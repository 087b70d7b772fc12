"""What a request says once it is decoded, whatever bytes it came in."""

from collections.abc import Mapping
from typing import NamedTuple

from penaltyscope_events import Event, RunIdentity, StepBlock


class Batch(NamedTuple):
    """Everything that one process of one run said in one request."""

    identity: RunIdentity
    steps: tuple[StepBlock, ...] = ()
    """Stop records, one block per pipeline, incarnation and term names, in order of arrival."""
    events: tuple[Event, ...] = ()
    """Run starts, heartbeats and ends, exceptions and incidents, in order of arrival."""


class Decoded(NamedTuple):
    """A whole request."""

    batches: tuple[Batch, ...]
    """One per resource that is a process of a run, in order of arrival."""
    received: Mapping[str, int]
    """Accepted records per event name; ``other`` counts those that are not of this wire format."""
    refused: Mapping[str, int]
    """Refused records per reason."""
    message: str = ""
    """The first refused record in words; empty when none was refused."""
