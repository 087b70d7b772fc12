"""A whole request: every record read, or refused on its own with a reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from penaltyscope_events import Event, names
from penaltyscope_service.decode._attribute import InvalidRecordError
from penaltyscope_service.decode._batch import Batch, Decoded
from penaltyscope_service.decode._event import read_event
from penaltyscope_service.decode._identity import read_identity
from penaltyscope_service.decode._json import read_json
from penaltyscope_service.decode._protobuf import read_protobuf
from penaltyscope_service.decode._record import EVENTS, Record, Resource
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

_READERS: Final[dict[ContentType, Callable[[bytes], Iterator[Resource]]]] = {
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
    account = _Account()
    batches = [_read_resource(r, account, received_ns) for r in _READERS[content_type](body)]
    return Decoded(
        batches=tuple(batch for batch in batches if batch is not None),
        received=account.received,
        refused=account.refused,
        message=account.message,
    )


@dataclass(slots=True)
class _Account:
    """What became of every record of a request."""

    received: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    message: str = ""
    position: int = 0
    """Of the current record, counted through the whole request from 1."""

    def refuse(self, record: Record, error: InvalidRecordError) -> None:
        self.refused[error.reason] += 1
        self.message = self.message or f"record {self.position} ({record.event_name}): {error}"


def _read_resource(resource: Resource, account: _Account, received_ns: int) -> Batch | None:
    try:
        identity = read_identity(resource.attributes)
    except InvalidRecordError as error:  # of each of its records, not of the request
        for record, _ in _ours(resource, account):
            account.refuse(record, error)
        return None
    rows: dict[StepKey, list[StepRow]] = {}
    events: list[Event] = []
    for record, terms in _ours(resource, account):
        try:
            if record.event_name == names.PIPELINE_STOP:
                key, row = read_step(record, terms, received_ns)
                rows.setdefault(key, []).append(row)
            elif record.event_name != names.PIPELINE_START:
                events.append(read_event(record, received_ns))
            account.received[LABELS[record.event_name]] += 1
        except InvalidRecordError as error:
            account.refuse(record, error)
    if not (rows or events):
        return None
    steps = tuple(build_block(key, block) for key, block in rows.items())
    return Batch(identity=identity, steps=steps, events=tuple(events))


def _ours(resource: Resource, account: _Account) -> Iterable[tuple[Record, ScopeTerms]]:
    """The records of this wire format, each with its scope's term names; others are counted."""
    for scope in resource.scopes:
        terms = ScopeTerms(scope.attributes)
        for record in scope.records:
            account.position += 1
            if record.event_name in EVENTS:
                yield record, terms
            else:
                account.received[OTHER] += 1
