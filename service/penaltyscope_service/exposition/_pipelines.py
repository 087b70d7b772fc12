"""The families of pipelines and their terms."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from penaltyscope_events import FINDINGS
from penaltyscope_service.aggregate import (
    DURATION_BOUNDS,
    KINDS,
    NORM_BOUNDS,
    read_windows,
)
from penaltyscope_service.exposition._layout import Layout
from penaltyscope_service.exposition._moment import Moment
from penaltyscope_service.exposition._text import Family, Histograms, Samples

_LAST_FINITE: Final = "at the latest evaluation at which it was finite, on the lowest rank"

STEPS: Final = Family(
    "penaltyscope_pipeline_steps_total", "counter", "Evaluations that were received and kept."
)
DURATION: Final = Family(
    "penaltyscope_pipeline_duration_seconds",
    "histogram",
    "Time of an evaluation on the training thread, of all ranks.",
)
GAUGES: Final = (
    Family("penaltyscope_pipeline_penalty", "gauge", f"Sum of contributions {_LAST_FINITE}."),
    Family("penaltyscope_pipeline_base_loss", "gauge", f"Task loss {_LAST_FINITE}."),
    Family("penaltyscope_pipeline_loss", "gauge", f"Task loss plus penalty {_LAST_FINITE}."),
    Family(
        "penaltyscope_pipeline_gradient_norm",
        "gauge",
        f"Norm of the penalty's weighted gradient {_LAST_FINITE}.",
    ),
)
"""In the order of ``StreamAggregate.gauges``."""
TERM_GAUGES: Final = (
    Family("penaltyscope_term_value", "gauge", f"Unweighted value {_LAST_FINITE}."),
    Family("penaltyscope_term_weight", "gauge", f"Weight {_LAST_FINITE}."),
    Family("penaltyscope_term_contribution", "gauge", f"Weight times value {_LAST_FINITE}."),
    Family(
        "penaltyscope_term_gradient_norm",
        "gauge",
        f"Norm of the unweighted term's gradient {_LAST_FINITE}.",
    ),
    Family(
        "penaltyscope_term_gradient_share_ratio",
        "gauge",
        f"Weighted gradient norm over the sum of all terms' {_LAST_FINITE}.",
    ),
)
"""In the order of ``TermAggregate.gauges``."""
WINDOW_GAUGES: Final = (
    Family(
        "penaltyscope_term_value_window_max",
        "gauge",
        "Largest finite value of this and the last period, of all ranks; without any, the last.",
    ),
    Family(
        "penaltyscope_term_gradient_norm_window_max",
        "gauge",
        "Largest finite gradient norm of this and the last period, of all ranks; without any, "
        "the last.",
    ),
)
BASELINE: Final = Family(
    "penaltyscope_term_gradient_norm_baseline",
    "gauge",
    "Usual gradient norm on the lowest rank: the median of medians of the last 1025 evaluations.",
)
DISTRIBUTION: Final = Family(
    "penaltyscope_term_gradient_norm_distribution",
    "histogram",
    "Finite gradient norms of all ranks, in decades.",
)
NONFINITE: Final = Family(
    "penaltyscope_nonfinite_total",
    "counter",
    "Evaluations with a NaN or an infinity, by stage; term base is the task loss.",
)


def collect_pipelines(layout: Layout) -> Iterator[tuple[Family, Samples | Histograms]]:
    """What is known of pipelines."""
    if not layout.pipelines:
        return
    owners, levels = layout.pipeline_owners, layout.levels
    lowest = levels.streams[: len(owners)]
    steps = np.array([stream.steps for stream in layout.streams], np.int64)
    yield STEPS, Samples(layout.stream_owners, steps)
    gauges = np.concatenate([stream.gauges.finite for stream in lowest])
    for i, family in enumerate(GAUGES):
        yield family, Samples(owners, gauges[:, i])
    counts = levels.total(levels.stack(lambda s: s.durations.counts))
    sums = levels.total(levels.stack(lambda s: s.durations.sums))
    yield DURATION, Histograms(owners, counts, sums, DURATION_BOUNDS)


def collect_terms(layout: Layout, moment: Moment) -> Iterator[tuple[Family, Samples | Histograms]]:
    """What is known of terms."""
    if not layout.pipelines:
        return
    owners, levels = layout.term_owners, layout.levels
    gauges = levels.stack(lambda s: s.terms.gauges.finite)[levels.lowest]
    for i, family in enumerate(TERM_GAUGES):
        yield family, Samples(owners, gauges[:, i])
    windows = [stream.terms.window for stream in levels.streams]
    seen = levels.combine(read_windows(windows, moment.period), np.fmax)
    # A run whose steps are rare keeps its last number, so that its series do not come and go.
    peaks = np.where(np.isnan(seen), gauges[:, [0, 3]], seen)
    for i, family in enumerate(WINDOW_GAUGES):
        yield family, Samples(owners, peaks[:, i])
    baselines = levels.stack(lambda s: s.terms.baseline.value)[levels.lowest]
    yield BASELINE, Samples(owners, baselines)
    counts = levels.combine(levels.stack(lambda s: s.terms.norms.counts), np.add)
    sums = levels.combine(levels.stack(lambda s: s.terms.norms.sums), np.add)
    yield DISTRIBUTION, Histograms(owners, counts, sums, NORM_BOUNDS)


def collect_nonfinite(layout: Layout) -> tuple[Family, list[Samples]]:
    """The counters of findings, which exist at 0 from the first evaluation on."""
    streams = layout.streams
    if not streams:
        return NONFINITE, []
    findings = [f',stage="{f.stage}",kind="{f.kind}"'.encode() for f in FINDINGS]
    base = [f',stage="value",kind="{kind}"'.encode() for kind in KINDS]
    of_terms = np.concatenate([stream.terms.nonfinite for stream in streams])
    of_base = np.concatenate([stream.base_nonfinite for stream in streams])
    return NONFINITE, [
        Samples(layout.stream_term_owners, of_terms, findings),
        Samples(layout.base_owners, of_base, base),
    ]
