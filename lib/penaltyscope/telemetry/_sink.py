"""What can be done with the records of a watched process, and what it takes to begin."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from penaltyscope.telemetry._channel import Channel
from penaltyscope_events import RunIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The watched process, as a sink needs to know it."""

    identity: RunIdentity
    incarnation: str
    pipelines: Mapping[str, tuple[str, ...]]
    """The names of each pipeline's terms at the start."""
    environment: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    """Base URL that ``watch`` was given, for sinks without one of their own."""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    interval_seconds: float = 1.0
    spool: str | os.PathLike[str] | None = None
    """Directory that ``watch`` was given."""


@runtime_checkable
class Sink(Protocol):
    """A destination of records. A sink is a description: it may serve several watches."""

    def open(self, source: Source) -> Channel:
        """Begins to take records; called once for each watch, on its thread.

        Raises:
            ValueError: the description makes no sense.
            ImportError: a package that the sink needs is not installed.
        """
