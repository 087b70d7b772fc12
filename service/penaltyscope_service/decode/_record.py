"""What both readers make of a request: plain values whose meaning nobody has checked yet."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from penaltyscope_events import names

Scalar = str | bool | int | float | None
Value = Scalar | list[Scalar]
"""An attribute's value; ``None`` for kinds that no attribute of ours has (bytes, maps, nesting)."""
Attributes = Mapping[str, Value]

EVENTS: Final = frozenset(
    {
        names.RUN_START,
        names.RUN_HEARTBEAT,
        names.RUN_END,
        names.PIPELINE_START,
        names.PIPELINE_STOP,
        names.PIPELINE_EXCEPTION,
        names.INCIDENT,
    }
)
"""Every event of this wire format."""

KEPT: Final = EVENTS - {names.PIPELINE_START}
"""Events whose attributes are read; a start says nothing that its stop does not say as well."""

SEVERITY_ERROR: Final = 17


class Record(NamedTuple):
    """One log record."""

    event_name: str
    time_ns: int
    """Unix time in nanoseconds, 0 where the client gave none."""
    error: bool
    attributes: Attributes
    """Empty for events that are not kept."""


class InvalidRequestError(ValueError):
    """The body is not an OTLP request at all."""
