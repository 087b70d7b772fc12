"""What can be done with the records of a watched process, and what it takes to begin."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._environment import request_timeout_seconds
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

    def exporter_arguments(
        self, signal: Literal["metrics", "traces"], endpoint: str | None
    ) -> dict[str, Any]:
        """What an exporter of the SDK is to be told; the rest it reads from the environment.

        Args:
            signal: which it exports.
            endpoint: base URL, over that of ``watch``.
        """
        base = endpoint or self.endpoint
        timeout_seconds = self.timeout_seconds
        if timeout_seconds is None:
            # The SDK takes the variable for seconds; the specification says milliseconds.
            timeout_seconds = request_timeout_seconds(self.environment, signal.upper())
        return {
            "endpoint": f"{base.rstrip('/')}/v1/{signal}" if base else None,
            "headers": dict(self.headers) or None,
            "timeout": timeout_seconds,
        }


@runtime_checkable
class Sink(Protocol):
    """A destination of records. A sink is a description: it may serve several watches."""

    def open(self, source: Source) -> Channel:
        """Begins to take records; called once for each watch, on its thread.

        Raises:
            ValueError: the description makes no sense.
            ImportError: a package that the sink needs is not installed.
        """


@contextmanager
def needed_by(sink: str, *, extra: str) -> Iterator[None]:
    """Around imports: tells which extra has what a sink needs."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{sink} needs penaltyscope[{extra}]: {error}.") from error
