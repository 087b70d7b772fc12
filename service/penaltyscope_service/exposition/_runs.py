"""The families of runs and their ranks."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_service.exposition._layout import Layout
from penaltyscope_service.exposition._lines import Strings
from penaltyscope_service.exposition._moment import Moment
from penaltyscope_service.exposition._text import Family, Samples, format_labels
from penaltyscope_service.registry import TrackedRun
from penaltyscope_service.summary import STATES
from penaltyscope_service.vitals import last_step, step_seconds

INFO: Final = Family(
    "penaltyscope_run_info", "gauge", "Always 1; whose run it is, and its tags in tag_*."
)
STATE: Final = Family(
    "penaltyscope_run_state", "gauge", "1 for the state the run is in, 0 for the others."
)
INTERVAL: Final = Family(
    "penaltyscope_run_step_interval_seconds",
    "gauge",
    "Median time of a step over the last 64 steps of the lowest rank, by the job's clock.",
)
INCIDENTS: Final = Family(
    "penaltyscope_incidents_total", "counter", "Incidents that the run reported, by kind."
)
LAST_STEP: Final = Family(
    "penaltyscope_run_last_step", "gauge", "The step that the rank has reached."
)
PROGRESS: Final = Family(
    "penaltyscope_run_last_progress_timestamp_seconds",
    "gauge",
    "When the service last received a new step of the rank.",
)
RECEIVED: Final = Family(
    "penaltyscope_run_last_received_timestamp_seconds",
    "gauge",
    "When the service last received anything of the rank.",
)
DROPPED: Final = Family(
    "penaltyscope_recorder_dropped_steps_total",
    "counter",
    "Evaluations that the job's recorder lost, by its own count.",
)
OVERHEAD: Final = Family(
    "penaltyscope_recorder_overhead_seconds",
    "gauge",
    "Time that the job's training thread has spent on recording since its start.",
)
DUPLICATES: Final = Family(
    "penaltyscope_ingest_duplicate_records_total",
    "counter",
    "Evaluations that were received again and not counted again.",
)
MISSING: Final = Family(
    "penaltyscope_ingest_missing_records_total",
    "counter",
    "Evaluations that had not arrived when later ones had for a while; they may still come.",
)


def collect_runs(layout: Layout, moment: Moment) -> Iterator[tuple[Family, Samples]]:
    """What is known of runs and ranks."""
    runs = [entry.run for entry in layout.runs]
    owners = layout.run_owners
    states = [STATES.index(moment.watchman.state(run, moment.now)) for run in runs]
    incidents = [(run.record.run, kind, n) for run in runs for kind, n in run.incidents.items()]
    kinds = [format_labels({"run": run, "kind": kind}) for run, kind, _ in incidents]
    infos = [entry.describe(moment.tenant_of(entry.run.record.run)) for entry in layout.runs]
    yield INFO, Samples(Strings.of(infos), np.ones(len(runs)))
    yield (
        STATE,
        Samples(
            owners,
            np.equal.outer(states, np.arange(len(STATES))).astype(np.int64),
            [f',state="{state}"'.encode() for state in STATES],
        ),
    )
    yield INTERVAL, Samples(owners, _numbers(step_seconds(run) for run in runs))
    yield INCIDENTS, Samples(Strings.of(kinds), _numbers(count for *_, count in incidents))


def collect_ranks(layout: Layout, moment: Moment) -> Iterator[tuple[Family, Samples]]:
    """What is known of ranks."""
    owners = layout.process_owners
    ranks = [(entry.run, rank) for entry in layout.runs for rank in entry.ranks]
    processes = [run.processes[rank] for run, rank in ranks]
    yield LAST_STEP, Samples(owners, _numbers(last_step(run, rank) for run, rank in ranks))
    yield PROGRESS, Samples(owners, _numbers(_progress_at(run, rank) for run, rank in ranks))
    yield RECEIVED, Samples(owners, _numbers(process.received_at for process in processes))
    yield DROPPED, Samples(owners, _numbers(p.dropped_before + p.dropped for p in processes))
    yield OVERHEAD, Samples(owners, _numbers(process.overhead_seconds for process in processes))
    yield DUPLICATES, Samples(owners, _numbers(process.duplicates for process in processes))
    yield MISSING, Samples(owners, _numbers(_missing(run, rank, moment) for run, rank in ranks))


def _numbers(values: Iterable[float | None]) -> NDArray[np.float64]:
    """As doubles, also counts: a client can claim to have dropped more than 64 bits can hold."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _progress_at(run: TrackedRun, rank: int) -> float | None:
    """When the rank last took a step, if it ever did."""
    return max((s.aggregate.progress_at for s in run.of_rank(rank)), default=0.0) or None


def _missing(run: TrackedRun, rank: int, moment: Moment) -> int:
    sources = (source for stream in run.of_rank(rank) for source in stream.sources.values())
    return sum(source.ledger.missing(moment.now, moment.gap_seconds) for source in sources)
