"""What panels ask Prometheus: always of the chosen runs, and never of one scraped address.

A service may be scraped twice or move to another address. So whatever is said of a run is first
taken once per own labels (``max by``), and only then added up: ``job`` and ``instance`` are none of
a reader's business.
"""

from typing import Final

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")

# Plain $term: ${term:regex} breaks on names like "kl(q|p)".
RUN: Final = 'run=~"$run"'
PIPELINE: Final = f'{RUN}, pipeline=~"$pipeline"'
TERM: Final = f'{PIPELINE}, term=~"$term"'
RUN_RANK: Final = f'{RUN}, rank=~"$rank"'
PIPELINE_RANK: Final = f'{PIPELINE}, rank=~"$rank"'

FINDING: Final = "run, pipeline, term, stage, kind, rank"
"""The labels that tell one kind of finding from another."""

BY_TERM: Final = "{{run}} · {{pipeline}}/{{term}}"
BY_PIPELINE: Final = "{{run}} · {{pipeline}}"


def of(metric: str, matchers: str = "") -> str:
    """The selector of one of our metrics."""
    return f"penaltyscope_{metric}{{{matchers}}}" if matchers else f"penaltyscope_{metric}"


def per_second(metric: str, matchers: str = "", *, each: str = "") -> str:
    """The rate of a counter, over a window that fits the scrape interval.

    Args:
        metric: without the prefix.
        matchers: which series.
        each: the labels of a run's counter, which is then taken once.
    """
    rate = f"rate({of(metric, matchers)}[$__rate_interval])"
    return f"max by ({each}) ({rate})" if each else rate


def steps_per_second() -> str:
    """Evaluations per second of each rank of each pipeline."""
    return per_second("pipeline_steps_total", PIPELINE_RANK, each="run, pipeline, rank")


def findings() -> str:
    """How often each finding was made since its run began.

    Of every term, chosen or not: the task loss ("base") can be hit too, and is no term to choose.
    """
    return f"max by ({FINDING}) ({of('nonfinite_total', PIPELINE_RANK)})"


def per_term(metric: str) -> str:
    """A gauge of terms, once per term."""
    return f"max by (run, pipeline, term) ({of(metric, TERM)})"


def per_pipeline(metric: str) -> str:
    """A gauge of pipelines, once per pipeline."""
    return f"max by (run, pipeline) ({of(metric, PIPELINE)})"


def above_baseline(by: str) -> str:
    """The largest peak of a gradient norm as a multiple of its past, as the alert judges it."""
    peak = of("term_gradient_norm_window_max", TERM)
    return f"max by ({by}) ({peak} / min_over_time({of('term_gradient_norm_baseline', TERM)}[10m]))"


def over_time(expr: str, legend: str) -> prometheus.Dataquery:
    """A query over the time range."""
    return _query(expr).range().legend_format(legend)


def now(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query at the end of the time range."""
    return _query(expr).instant().legend_format(legend)


def rows(expr: str) -> prometheus.Dataquery:
    """A query at the end of the time range whose labels are columns of a table."""
    return _query(expr).instant().format(PromQueryFormat.TABLE)


def buckets(expr: str) -> prometheus.Dataquery:
    """A query over the time range for the buckets of a histogram."""
    return _query(expr).range().format(PromQueryFormat.HEATMAP).legend_format("{{le}}")


def _query(expr: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr)
