"""A whole request: every record read, or refused on its own with a reason."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from penaltyscope_events import Event, RunIdentity, StepBlock, names
from penaltyscope_service.decode._attribute import InvalidRecordError
from penaltyscope_service.decode._batch import Batch, Decoded
from penaltyscope_service.decode._columns import Columns
from penaltyscope_service.decode._event import read_event
from penaltyscope_service.decode._json import read_json
from penaltyscope_service.decode._protobuf import read_familiar, read_protobuf
from penaltyscope_service.decode._record import EVENTS, KEPT, Record
from penaltyscope_service.decode._resource import Resource
from penaltyscope_service.decode._step import (
    ScopeTerms,
    StepKey,
    StepRow,
    build_block,
    read_step,
)

ContentType = Literal["application/x-protobuf", "application/json"]

OTHER: Final = "other"
"""The label of records that are not of this wire format."""
LABELS: Final = {event: event.removeprefix("penaltyscope.") for event in sorted(EVENTS)}
"""The metric label of every event."""
_START: Final = LABELS[names.PIPELINE_START]
_STOP: Final = LABELS[names.PIPELINE_STOP]

_READERS: Final[dict[ContentType, Callable[[bytes], Iterable[Resource]]]] = {
    "application/x-protobuf": read_protobuf,
    "application/json": read_json,
}


def decode_logs(body: bytes, content_type: ContentType, *, received_ns: int = 0) -> Decoded:
    """The columns and events of a request.

    Args:
        body: an ``ExportLogsServiceRequest``, not compressed.
        content_type: the body's encoding, without parameters.
        received_ns: the time of records that carry none, Unix time in nanoseconds.

    Raises:
        InvalidRequestError: if the body cannot be decoded; a single bad record does not raise.
    """
    if content_type == "application/x-protobuf":
        decoded = _read_familiar(body, received_ns)
        if decoded is not None:
            return decoded
    account = _Account()
    batches = [_read_resource(r, account, received_ns) for r in _READERS[content_type](body)]
    found = tuple(filter(None, batches))
    return Decoded(found, account.received, account.refused, account.message)


def _read_familiar(body: bytes, received_ns: int) -> Decoded | None:
    """As everything that follows would do it, in less time."""
    familiar = read_familiar(body)
    if familiar is None:
        return None
    speaker, terms, columns, plan = familiar
    read = columns.read(plan, terms, received_ns)
    if read is None:
        return None
    try:
        identity = speaker.identity
    except InvalidRecordError:
        return None
    received = {_STOP: columns.repeats}
    if columns.pattern.starts:
        received[_START] = columns.repeats * columns.pattern.starts
    return Decoded((Batch(identity, (read[1],)),), received, {})


@dataclass(slots=True)
class _Account:
    """What became of every record of a request."""

    received: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    message: str = ""
    position: int = 0
    """Of the last record, counted through the whole request from 1."""

    def keep(self, label: str, count: int = 1) -> None:
        self.position += count
        self.received[label] = self.received.get(label, 0) + count

    def refuse(self, record: Record, error: InvalidRecordError) -> None:
        self.position += 1
        self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
        self.message = self.message or f"record {self.position} ({record.event_name}): {error}"


class _Reading:
    """What one resource's records have come to so far."""

    def __init__(self, account: _Account, received_ns: int) -> None:
        self._account = account
        self._received_ns = received_ns
        self._steps: dict[StepKey, list[StepBlock | list[StepRow]]] = {}
        self._events: list[Event] = []

    def batch(self, identity: RunIdentity) -> Batch | None:
        """Everything that was kept; nothing if nothing was."""
        if not (self._steps or self._events):
            return None
        steps = [build_block(key, parts) for key, parts in self._steps.items()]
        return Batch(identity, tuple(steps), tuple(self._events))

    def read_columns(self, columns: Columns, terms: ScopeTerms) -> None:
        """All at once or, where one may have to be refused, one by one."""
        starts, plan = columns.pattern.starts, columns.pattern.plan
        if plan is not None:
            read = columns.read(plan, terms, self._received_ns)
            if read is None:
                for record in columns.records():
                    self.read_record(record, terms)
                return
            key, steps = read
            self._steps.setdefault(key, []).append(steps)
            self._account.keep(_STOP, columns.repeats)
        if starts:
            self._account.keep(_START, columns.repeats * starts)

    def read_record(self, record: Record, terms: ScopeTerms) -> None:
        """Keeps it, refuses it or, if it is not of this wire format, only counts it."""
        try:
            if record.event_name == names.PIPELINE_STOP:
                self._append(*read_step(record, terms, self._received_ns))
            elif record.event_name in KEPT:
                self._events.append(read_event(record, self._received_ns))
        except InvalidRecordError as error:
            self._account.refuse(record, error)
        else:
            self._account.keep(LABELS.get(record.event_name, OTHER))

    def _append(self, key: StepKey, row: StepRow) -> None:
        parts = self._steps.setdefault(key, [])
        if parts and isinstance(parts[-1], list):
            parts[-1].append(row)
        else:
            parts.append([row])


def _read_resource(resource: Resource, account: _Account, received_ns: int) -> Batch | None:
    try:
        identity = resource.speaker.identity
    except InvalidRecordError as error:  # of each of its records, not of the request
        _refuse_all(resource, account, error)
        return None
    reading = _Reading(account, received_ns)
    for scope in resource.scopes:
        for item in scope.records:
            if isinstance(item, Columns):
                reading.read_columns(item, scope.terms)
            else:
                reading.read_record(item, scope.terms)
    return reading.batch(identity)


def _refuse_all(resource: Resource, account: _Account, error: InvalidRecordError) -> None:
    for scope in resource.scopes:
        for item in scope.records:
            for record in item.records() if isinstance(item, Columns) else (item,):
                if record.event_name in EVENTS:
                    account.refuse(record, error)
                else:
                    account.keep(OTHER)
