"""The text of ``/metrics`` about runs, and the limit on its size."""

import logging
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Final, NamedTuple

from penaltyscope_service.exposition._layout import Layout, PipelineEntry, RunEntry, shape_of
from penaltyscope_service.exposition._moment import Moment
from penaltyscope_service.exposition._pipelines import (
    collect_nonfinite,
    collect_pipelines,
    collect_terms,
)
from penaltyscope_service.exposition._runs import collect_ranks, collect_runs
from penaltyscope_service.exposition._text import (
    Family,
    Histograms,
    Samples,
    write_histograms,
    write_samples,
)
from penaltyscope_service.registry import TrackedRun

_logger: Final = logging.getLogger(__name__)

SERIES: Final = Family("penaltyscope_series", "gauge", "Series of runs on this page.")
REFUSED: Final = Family(
    "penaltyscope_series_refused_total",
    "counter",
    "Series of runs and pipelines that were left out because there are too many.",
)
SIZE: Final = Family(
    "penaltyscope_history_size_bytes", "gauge", "Size of the file with all steps, and of its log."
)


class Page(NamedTuple):
    """Numbers that were taken at one moment and can be written at leisure."""

    families: list[tuple[Family, list[Samples] | Histograms]]
    refused_series: int


class Exposition:
    """Collects numbers, which needs the runs to stand still, and writes them, which does not.

    A run that is over has no series any more. When there are too many series, runs and pipelines
    that appeared later are left out as a whole; they get theirs when earlier ones are over.
    """

    def __init__(self, series_limit: int) -> None:
        self._series_limit = series_limit
        self._entries: dict[str, RunEntry] = {}
        self._layout = Layout([], [])
        self._refused: dict[tuple[str, ...], int] = {}
        self._refused_series = 0

    def collect(self, runs: Iterable[TrackedRun], moment: Moment) -> Page:
        """All numbers of all runs."""
        layout = self._arrange(run for run in runs if not moment.watchman.is_over(run, moment.now))
        families: list[tuple[Family, list[Samples] | Histograms]] = [
            (family, [samples])
            for collect in (collect_runs, collect_ranks)
            for family, samples in collect(layout, moment)
        ]
        for family, numbers in (*collect_pipelines(layout), *collect_terms(layout, moment)):
            families.append((family, numbers if isinstance(numbers, Histograms) else [numbers]))
        families.append(collect_nonfinite(layout))
        return Page(families, self._refused_series)

    def _arrange(self, runs: Iterable[TrackedRun]) -> Layout:
        """The layout, made anew when any run has other series than before."""
        entries: dict[str, RunEntry] = {}
        for run in runs:
            entry = self._entries.get(run.record.run)
            # A run that was deleted and came back is another one.
            fits = entry is not None and entry.run is run and entry.shape == shape_of(run)
            entries[run.record.run] = entry if entry is not None and fits else RunEntry(run)
        if entries != self._entries:
            self._entries = entries
            self._layout = self._admit(entries)
        return self._layout

    def _admit(self, entries: Mapping[str, RunEntry]) -> Layout:
        """As many runs and pipelines as there is room for, in order of appearance."""
        room = self._series_limit
        runs: list[RunEntry] = []
        pipelines: list[PipelineEntry] = []
        refused: dict[tuple[str, ...], int] = {}
        for name, run in entries.items():
            if run.series > room:
                refused[name,] = run.series + sum(p.series for p in run.pipelines.values())
                continue
            room -= run.series
            runs.append(run)
            for pipeline_name, pipeline in run.pipelines.items():
                if pipeline.series > room:
                    refused[name, pipeline_name] = pipeline.series
                else:
                    room -= pipeline.series
                    pipelines.append(pipeline)
        self._note(refused)
        return Layout(runs, pipelines)

    def _note(self, refused: dict[tuple[str, ...], int]) -> None:
        new = {name: series for name, series in refused.items() if name not in self._refused}
        self._refused_series += sum(new.values())
        if new and not self._refused:
            _logger.warning(
                "%r and perhaps others have no series: there may be %d, see series_limit",
                next(iter(new)),
                self._series_limit,
            )
        self._refused = refused


def write(page: Page, history_bytes: int) -> bytes:
    """The page as text."""
    text = BytesIO()
    series = 0
    for family, numbers in page.families:
        if isinstance(numbers, Histograms):
            series += write_histograms(text, family, numbers)
        else:
            series += write_samples(text, family, numbers)
    own = ((SERIES, series), (REFUSED, page.refused_series), (SIZE, history_bytes))
    for family, number in own:
        text.write(b"%b\n%b %d\n" % (family.head, family.name.encode(), number))
    return text.getvalue()
