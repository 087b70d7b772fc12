"""Reads an ``ExportLogsServiceRequest`` in protobuf, in columns where that is possible.

What is not written as the usual encoders write it is left to protobuf itself, so that every
request means what it would mean without this shortcut.
Reference: opentelemetry/proto/logs/v1/logs.proto.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from penaltyscope_service.decode._columns import Columns
from penaltyscope_service.decode._field import (
    Field,
    UnknownFormError,
    expect,
    fields,
    read_field,
    wrap,
)
from penaltyscope_service.decode._opening import Opening, Openings
from penaltyscope_service.decode._pattern import Patterns
from penaltyscope_service.decode._plan import Plan
from penaltyscope_service.decode._record import InvalidRequestError, Record
from penaltyscope_service.decode._resource import Resource, Scope, Speaker
from penaltyscope_service.decode._step import ScopeTerms
from penaltyscope_service.decode._stock import read_stock, read_stock_records

_MOST_LESSONS: Final = 8
"""Patterns that are looked for in one scope; where there are more, looking does not pay."""
_MOST_CACHED_BYTES: Final = 8192


class Familiar(NamedTuple):
    """A request of one process, all of whose records are laid out alike."""

    speaker: Speaker
    terms: ScopeTerms
    columns: Columns
    plan: Plan


_OPENINGS: Final = Openings()
_PATTERNS: Final = Patterns()


def read_protobuf(body: bytes) -> list[Resource]:
    """The resources of a request, in order.

    Raises:
        InvalidRequestError: if the body is not such a message.
    """
    try:
        opening = _OPENINGS.find(body) or _open(body)
        if opening is None:
            return [_resource(body, expect(part, 1)) for part in fields(body, 0, len(body))]
        records = _records(body, opening.stop, len(body))
        return [Resource(opening.speaker, [Scope(opening.terms, records)])]
    except (UnknownFormError, InvalidRequestError):
        return list(read_stock(body))


def read_familiar(body: bytes) -> Familiar | None:
    """A request that is one which was read before, but for its numbers; nothing if it is not.

    What nearly all are, and quickly told.
    """
    opening = _OPENINGS.find(body)
    if opening is None:
        return None
    start, stop = opening.stop, len(body)
    pattern = _PATTERNS.recall(stop - start)
    if pattern is None or pattern.plan is None:
        return None
    data = np.frombuffer(body, np.uint8)
    count = pattern.count(data, start, stop)
    if start + count * pattern.stride < stop:
        return None
    columns = Columns(body, data, start, count, pattern, _stock_records)
    return Familiar(opening.speaker, opening.terms, columns, pattern.plan)


def _open(body: bytes) -> Opening | None:
    """The opening of a request that has one resource and one scope; nothing for others."""
    end = len(body)
    resource = expect(read_field(body, 0, end), 1)
    resource_head = expect(read_field(body, resource.start, resource.stop), 1)
    scope = expect(read_field(body, resource_head.stop, resource.stop), 2)
    if not resource.stop == scope.stop == end:
        return None
    scope_head = expect(read_field(body, scope.start, scope.stop), 1)
    opening = Opening(
        scope_head.stop,
        _speaker_of(body[resource.start : resource_head.stop]),
        _terms_of(body[scope.start : scope_head.stop]),
    )
    _OPENINGS.remember(body, opening)
    return opening


def _resource(body: bytes, part: Field) -> Resource:
    """A ``ResourceLogs``: a resource (1), then scopes (2), and nothing else."""
    first = expect(read_field(body, part.start, part.stop), 1)
    scopes = [_scope(body, expect(f, 2)) for f in fields(body, first.stop, part.stop)]
    return Resource(_speaker_of(body[part.start : first.stop]), scopes)


def _scope(body: bytes, part: Field) -> Scope:
    """A ``ScopeLogs``: a scope (1), then records (2), and nothing else."""
    first = expect(read_field(body, part.start, part.stop), 1)
    return Scope(_terms_of(body[part.start : first.stop]), _records(body, first.stop, part.stop))


def _records(body: bytes, start: int, stop: int) -> list[Record | Columns]:
    """In columns as far as possible."""
    data = np.frombuffer(body, np.uint8)
    found: list[Record | Columns] = []
    lessons = 0
    read_until = start
    while start < stop and lessons < _MOST_LESSONS:
        pattern = _PATTERNS.recall(stop - start)
        count = 0 if pattern is None else pattern.count(data, start, stop)
        if pattern is None or not count:
            heads = _heads(body, start, stop)
            pattern = _PATTERNS.find(data, start, heads[-1].stop)
            if pattern is None:
                lessons += 1
                pattern = _PATTERNS.learn(body, start, heads, _stock_records)
            if pattern is None:
                start = heads[0].stop
                continue
            _PATTERNS.expect(pattern, stop - start)
            count = pattern.count(data, start, stop)
        if read_until < start:
            found += _stock_records(body, read_until, start)
        found.append(Columns(body, data, start, count, pattern, _stock_records))
        read_until = start = start + count * pattern.stride
    if read_until < stop:
        found += _stock_records(body, read_until, stop)
    return found


def _heads(body: bytes, start: int, stop: int) -> list[Field]:
    """The next record or, where it differs from the one that follows, both."""
    first = expect(read_field(body, start, stop), 2)
    if first.stop == stop:
        return [first]
    second = expect(read_field(body, first.stop, stop), 2)
    return [first] if second.stop - first.stop == first.stop - start else [first, second]


def _speaker_of(resource: bytes) -> Speaker:
    read = _speaker if len(resource) <= _MOST_CACHED_BYTES else _speaker.__wrapped__
    return read(resource)


def _terms_of(scope: bytes) -> ScopeTerms:
    read = _terms if len(scope) <= _MOST_CACHED_BYTES else _terms.__wrapped__
    return read(scope)


@lru_cache(maxsize=1024)
def _speaker(resource: bytes) -> Speaker:
    (resource_logs,) = read_stock(wrap(1, resource))
    return resource_logs.speaker


@lru_cache(maxsize=1024)
def _terms(scope: bytes) -> ScopeTerms:
    (resource_logs,) = read_stock(_in_request(scope))
    (scope_logs,) = resource_logs.scopes
    return scope_logs.terms


def _stock_records(body: bytes, start: int, stop: int) -> Iterable[Record]:
    """The records between two positions, read by protobuf itself."""
    return read_stock_records(_in_request(body[start:stop]))


def _in_request(content: bytes) -> bytes:
    """A request of one scope, as deep as it was: protobuf's limit on nesting stays the same."""
    return wrap(1, wrap(2, content))
