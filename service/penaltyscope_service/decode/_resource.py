"""What both readers make of a request: processes, what they state once, and their records."""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from penaltyscope_events import RunIdentity
from penaltyscope_service.decode._columns import Columns
from penaltyscope_service.decode._identity import read_identity
from penaltyscope_service.decode._record import Attributes, Record
from penaltyscope_service.decode._step import ScopeTerms


class Speaker:
    """The process that a resource states, checked once."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes

    @cached_property
    def identity(self) -> RunIdentity:
        """Raises InvalidRecordError if the resource is no process of a run."""
        return read_identity(self._attributes)


class Scope(NamedTuple):
    """The records of one instrumentation scope."""

    terms: ScopeTerms
    records: Iterable[Record | Columns]


class Resource(NamedTuple):
    """Everything that one process said."""

    speaker: Speaker
    scopes: Iterable[Scope]
