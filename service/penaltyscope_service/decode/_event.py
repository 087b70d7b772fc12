"""Records that are not steps: run start, heartbeat and end, exception, incident."""

from collections.abc import Callable, Mapping
from typing import Final, cast

from penaltyscope_events import AttributeValue, Event
from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import InvalidRecordError, integer, name, number, text
from penaltyscope_service.decode._record import Attributes, Record, Scalar, Value
from penaltyscope_service.decode._step import read_time

_STATUSES: Final = ("finished", "failed", "interrupted")

Read = Callable[[Attributes, str], AttributeValue]


def read_event(record: Record, received_ns: int) -> Event:
    """One record, its known attributes checked and the others as they came.

    Raises:
        InvalidRecordError: if an attribute is missing or has the wrong type or value.
    """
    attributes = {
        key: plain
        for key, value in record.attributes.items()
        if (plain := _plain(value)) is not None
    }
    for key, read in _REQUIRED.get(record.event_name, {}).items():
        attributes[key] = read(record.attributes, key)
    for key, read in _OPTIONAL.items():
        if key in record.attributes:
            attributes[key] = read(record.attributes, key)
    return Event(
        name=record.event_name,
        time_ns=read_time(record, received_ns),
        attributes=attributes,
        error=record.error,
    )


def _status(attributes: Attributes, key: str) -> str:
    status = text(attributes, key)
    if status not in _STATUSES:
        raise InvalidRecordError(
            "invalid_value", f"{key} must be one of {', '.join(_STATUSES)}, got {status!r:.100}."
        )
    return status


_REQUIRED: Final[Mapping[str, Mapping[str, Read]]] = {
    wire.RUN_END: {wire.STATUS: _status},
    # An evaluation that raised has a number like any other, so that it leaves no gap.
    wire.PIPELINE_EXCEPTION: {
        wire.PIPELINE: name,
        wire.INCARNATION: name,
        wire.STEP: integer,
        wire.SEQ: integer,
    },
}
_OPTIONAL: Final[Mapping[str, Read]] = {
    wire.DROPPED_STEPS: integer,
    wire.OVERHEAD: number,
    wire.EXCEPTION_TYPE: text,
    wire.EXCEPTION_MESSAGE: text,
    wire.EXCEPTION_STACKTRACE: text,
}


def _plain(value: Value) -> AttributeValue | None:
    """The value as an event may carry it; ``None`` for what it cannot."""
    return _uniform(value) if isinstance(value, list) else value


def _uniform(values: list[Scalar]) -> AttributeValue | None:
    """An array of one type; wire and columns know no other."""
    for kind in (str, int, float):
        uniform = tuple(value for value in values if type(value) is kind)
        if len(uniform) == len(values):
            return cast("AttributeValue", uniform)
    return None
