"""What goes into the tables and comes out of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import StepBlock
from penaltyscope_service.dedupe import Ledger
from penaltyscope_service.states import ProcessRecord, RunRecord


class StreamRow(NamedTuple):
    """One pipeline on one rank of a run."""

    id: int
    run: int
    rank: int
    pipeline: str


class SourceRow(NamedTuple):
    """One recorder's life within a stream."""

    id: int
    stream: int
    incarnation: str
    ledger: Ledger


class TermsRow(NamedTuple):
    """The terms that blocks have in common."""

    id: int
    names: tuple[str, ...]


class Place(NamedTuple):
    """Where a block belongs, by number; blocks of one place may be packed together."""

    stream: int
    source: int
    terms: int


class NewBlock(NamedTuple):
    """Steps that are to be kept."""

    place: Place
    received_at: float
    """Unix time in seconds."""
    steps: StepBlock


class KeptBlock(NamedTuple):
    """Steps as bytes, and what is asked of them before they are read again."""

    place: Place
    received_at: float
    """Unix time in seconds."""
    pipeline: str
    incarnation: str
    terms: tuple[str, ...]
    step: NDArray[np.int64]
    """``[N]``, as are the next two: columns of the block."""
    seq: NDArray[np.int64]
    stop_ns: NDArray[np.int64]
    first_step: int
    """The least."""
    last_step: int
    nonfinite_rows: int
    """Evaluations with any number that is not finite."""
    payload: bytes


class Incident(NamedTuple):
    """Something that a job reported; the first four columns tell it from others."""

    run: int
    rank: int
    time_ns: int
    kind: str
    attributes: str
    """JSON, with NaN and Infinity as Python writes them."""


@dataclass(slots=True)
class Changes:
    """What one transaction writes; records replace those with the same number."""

    runs: list[RunRecord] = field(default_factory=list)
    processes: list[ProcessRecord] = field(default_factory=list)
    streams: list[StreamRow] = field(default_factory=list)
    sources: list[SourceRow] = field(default_factory=list)
    advanced: list[SourceRow] = field(default_factory=list)
    """Sources that only went on: their blocks say how far, until those are packed."""
    terms: list[TermsRow] = field(default_factory=list)
    blocks: list[KeptBlock] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Everything in the file but steps."""

    runs: list[RunRecord]
    processes: list[ProcessRecord]
    streams: list[StreamRow]
    sources: list[SourceRow]
    terms: list[TermsRow]
    loose: Mapping[Place, int]
    """Evaluations in small blocks, by place."""
    incidents: Mapping[tuple[int, str], int]
    """How many there are by run and kind."""
    highest: int
    """The highest number that any run, stream, source or list of terms has."""
