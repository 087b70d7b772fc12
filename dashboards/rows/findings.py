"""What went NaN or infinite: which term, at which stage, on which rank, since when."""

from dashboards.panels.lines import bars, lines
from dashboards.panels.listing import column, listing
from dashboards.panels.place import NONE_IS_GOOD, Panel, thresholds
from dashboards.query import FINDING, PIPELINE_RANK, findings, over_time, per_second, rows

_NEVER = 10**15
"""Milliseconds, far beyond any run: sorts runs without findings last."""


def panels() -> list[Panel]:
    """When, and which."""
    return [_when(), _which()]


def _when() -> Panel:
    rate = per_second("nonfinite_total", PIPELINE_RANK, each=FINDING)
    found = f"{rate} > 0"
    # A healthy run draws a line at 0: "No data" would leave open whether anyone is looking.
    healthy = f'label_replace(sum by (run) ({rate}) == 0, "term", "none", "", "")'
    panel = lines(
        "Non-finite findings over time",
        "Evaluations per second in which a term's input, value or gradient was NaN or infinite:"
        " run, pipeline, term, stage, kind, rank. A run without any is a line at 0.",
        over_time(
            f"{_named(found, FINDING)} or {_named(healthy, 'run, term')}",
            "{{finding}}",
        ),
        unit="suffix:/s",
        size=(10, 9),
    )
    return bars(panel).axis_soft_max(1)


def _named(expr: str, labels: str) -> str:
    """Gives each series one label with the text of several."""
    names = ", ".join(f'"{label}"' for label in labels.split(", "))
    return f'label_join({expr}, "finding", " · ", {names})'


def _which() -> Panel:
    count = findings()
    healthy = f"(sum by (run) ({count}) == 0)"
    since = f"min_over_time(timestamp({count} > 0)[$__range:$__interval])"
    panel = listing(
        "Non-finite findings: which, and since when",
        "Earliest first; within one step the cause comes in the order input, value, gradient."
        " First seen is within the time range and as fine as the scrapes: the service's page"
        " knows the exact step. A run without findings has one row, the last.",
        {
            "run": "Run",
            "pipeline": "Pipeline",
            "term": "Term",
            "stage": "Stage",
            "kind": "Kind",
            "rank": "Rank",
        },
        {
            "Findings": rows(f"{count} > 0 or {healthy}"),
            "First seen": rows(f"{since} * 1000 or {healthy} + {_NEVER}"),
        },
        sort_by="First seen",
        size=(14, 9),
    )
    looks: dict[str, dict[str, object]] = {
        "Findings": {
            "unit": "locale",
            "thresholds": thresholds(NONE_IS_GOOD),
            "custom.cellOptions": {"type": "color-text"},
            "custom.width": 90,
        },
        "First seen": {
            "unit": "dateTimeAsIso",
            "custom.width": 160,
            "mappings": [
                {
                    "type": "range",
                    "options": {"from": _NEVER, "to": None, "result": {"text": "never"}},
                }
            ],
        },
        "Run": {"custom.width": 150},
        "Pipeline": {"custom.width": 130},
        "Stage": {"custom.width": 90},
        "Kind": {"custom.width": 60},
        "Rank": {"custom.width": 60},
    }
    for heading, look in looks.items():
        panel = column(panel, heading, look)
    return panel
