"""How fast runs go, and how every step's numbers are spread."""

from dashboards.panels.distribution import distribution
from dashboards.panels.lines import lines
from dashboards.panels.place import Panel
from dashboards.query import PIPELINE, TERM, buckets, over_time, per_second, steps_per_second


def panels() -> list[Panel]:
    """Steps per second, the time that evaluations take, and all gradient norms."""
    duration = per_second("pipeline_duration_seconds_bucket", PIPELINE, each="run, pipeline, le")
    norms = per_second(
        "term_gradient_norm_distribution_bucket", TERM, each="run, pipeline, term, le"
    )
    return [
        lines(
            "Steps per second",
            "Evaluations, by run and rank.",
            over_time(
                f"sum by (run, rank) ({steps_per_second()})",
                "{{run}} · rank {{rank}}",
            ),
            unit="suffix:/s",
            size=(6, 8),
        ).min(0),
        lines(
            "Evaluation time, 95% of steps",
            "Time on the training thread from the start of an evaluation to its stop, that 95 of"
            " 100 stay below.",
            over_time(
                f"histogram_quantile(0.95, {duration})",
                "{{run}} · {{pipeline}}",
            ),
            unit="s",
            size=(6, 8),
        ).min(0),
        distribution(
            "Evaluation time",
            "Every evaluation of the chosen runs.",
            buckets(f"sum by (le) ({duration})"),
            unit="s",
            size=(6, 8),
        ),
        distribution(
            "Gradient norms",
            "Every step of the chosen terms, by decade: what happens between two scrapes too.",
            buckets(f"sum by (le) ({norms})"),
            unit="sci",
            size=(6, 8),
        ),
    ]
