"""Which runs have series, and their labels: made once, and again only when the series change."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final

from penaltyscope_events import FINDINGS
from penaltyscope_events.names import BASE_TERM
from penaltyscope_service.aggregate import (
    DURATION_BOUNDS,
    NORM_BOUNDS,
    PipelineAggregate,
    StreamAggregate,
)
from penaltyscope_service.exposition._levels import Levels
from penaltyscope_service.exposition._lines import Strings
from penaltyscope_service.exposition._text import format_labels
from penaltyscope_service.registry import TrackedRun
from penaltyscope_service.summary import STATES

_RUN_SERIES: Final = 2 + len(STATES)
_PROCESS_SERIES: Final = 7
_PIPELINE_SERIES: Final = 4 + len(DURATION_BOUNDS) + 3
_STREAM_SERIES: Final = 1 + 2
_TERM_SERIES: Final = 8 + len(NORM_BOUNDS) + 3
_STREAM_TERM_SERIES: Final = len(FINDINGS)
"""How many series there are at most for each; counters of incidents come on top."""

_MOST_TAGS: Final = 16
_LONGEST_TAG: Final = 128


class PipelineEntry:
    """A pipeline that may have series."""

    def __init__(self, run: TrackedRun, pipeline: str) -> None:
        streams = {rank: s.aggregate for rank, s in run.of_pipeline(pipeline).items()}
        self.aggregate = PipelineAggregate.of(streams)
        names = {"run": run.record.run, "pipeline": pipeline}
        self.owner = format_labels(names)
        self.terms = [format_labels({**names, "term": term}) for term in self.aggregate.terms]
        self.streams = [format_labels({**names, "rank": rank}) for rank in streams]
        self.bases = [format_labels({**names, "term": BASE_TERM, "rank": r}) for r in streams]
        self.stream_terms = [
            format_labels({**names, "term": term, "rank": rank})
            for rank, stream in streams.items()
            for term in stream.names
        ]

    @property
    def series(self) -> int:
        """How many there are at most."""
        return (
            _PIPELINE_SERIES
            + _STREAM_SERIES * len(self.streams)
            + _TERM_SERIES * len(self.terms)
            + _STREAM_TERM_SERIES * len(self.stream_terms)
        )


class RunEntry:
    """A run that may have series."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self.shape = shape_of(run)
        name = run.record.run
        self.owner = format_labels({"run": name})
        self.ranks = tuple(run.processes)
        self.processes = [format_labels({"run": name, "rank": rank}) for rank in self.ranks]
        self.pipelines = {pipeline: PipelineEntry(run, pipeline) for pipeline in run.pipelines}
        self._described: tuple[Mapping[str, str], str, bytes] | None = None

    def describe(self, tenant: str) -> bytes:
        """Labels with the tenant and the tags, which may be others at any time."""
        tags = self.run.record.tags
        known = self._described
        if known is None or known[0] is not tags or known[1] != tenant:
            labels = {"run": self.run.record.run, "tenant": tenant} | _tag_labels(tags)
            known = self._described = (tags, tenant, format_labels(labels))
        return known[2]

    @property
    def series(self) -> int:
        """How many there are at most, without those of pipelines."""
        return _RUN_SERIES + _PROCESS_SERIES * len(self.ranks)


def _tag_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """As many and as long as labels may reasonably be.

    Of two tags that make the same label, the first in the order of names is shown.
    """
    labels: dict[str, str] = {}
    for name in sorted(tags):
        label = "tag_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
        if len(labels) < _MOST_TAGS:
            labels.setdefault(label, tags[name][:_LONGEST_TAG])
    return labels


def shape_of(run: TrackedRun) -> tuple[int, ...]:
    """Differs when the run's series do."""
    return (len(run.processes), *(len(s.aggregate.names) for s in run.streams.values()))


@dataclass(frozen=True)
class Layout:
    """Everything that has series, in the order of the text."""

    runs: Sequence[RunEntry]
    pipelines: Sequence[PipelineEntry]

    @cached_property
    def run_owners(self) -> Strings:
        """Labels of runs."""
        return Strings.of([run.owner for run in self.runs])

    @cached_property
    def process_owners(self) -> Strings:
        """Labels of ranks."""
        return _flat(run.processes for run in self.runs)

    @cached_property
    def pipeline_owners(self) -> Strings:
        """Labels of pipelines."""
        return Strings.of([pipeline.owner for pipeline in self.pipelines])

    @cached_property
    def term_owners(self) -> Strings:
        """Labels of terms."""
        return _flat(pipeline.terms for pipeline in self.pipelines)

    @cached_property
    def stream_owners(self) -> Strings:
        """Labels of pipelines on a rank."""
        return _flat(pipeline.streams for pipeline in self.pipelines)

    @cached_property
    def base_owners(self) -> Strings:
        """Labels of the task loss on a rank."""
        return _flat(pipeline.bases for pipeline in self.pipelines)

    @cached_property
    def stream_term_owners(self) -> Strings:
        """Labels of terms on a rank."""
        return _flat(pipeline.stream_terms for pipeline in self.pipelines)

    @cached_property
    def levels(self) -> Levels:
        """The same streams, level by level."""
        return Levels.of([pipeline.aggregate for pipeline in self.pipelines])

    @cached_property
    def streams(self) -> list[StreamAggregate]:
        """In the order of their labels."""
        return [s for pipeline in self.pipelines for s in pipeline.aggregate.streams.values()]


def _flat(parts: Iterator[list[bytes]]) -> Strings:
    return Strings.of(list(chain.from_iterable(parts)))
