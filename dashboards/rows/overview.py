"""Which runs there are, and how they are."""

from grafana_foundation_sdk.builders import table

from dashboards.panels.listing import column, listing
from dashboards.panels.number import number
from dashboards.panels.place import NONE_IS_GOOD, Panel, thresholds
from dashboards.panels.state import BY_NAME, STATES, mapping, states_over_time
from dashboards.query import (
    PIPELINE,
    RUN,
    RUN_RANK,
    above_baseline,
    findings,
    now,
    of,
    over_time,
    rows,
    steps_per_second,
)

# In the time range, not now: a peak is gone a minute later, and so is one of a run that has ended.
_RATIO = f"max_over_time(({above_baseline('run')})[$__range:$__interval])"

_RATIO_STEPS = ((None, "green"), (10, "orange"), (100, "red"))


def panels() -> list[Panel]:
    """A strip of numbers, the table of runs, and their states over time."""
    return [*_numbers(), _runs(), _states()]


def _numbers() -> list[Panel]:
    return [
        number(
            "Running",
            "Runs that send steps now.",
            now(f"sum({_state('running')})"),
            steps=((None, "text"), (1, "blue")),
        ),
        number(
            "In trouble",
            "Runs that failed, were interrupted, stopped making steps (stalled) or fell silent"
            " (lost).",
            now(f"sum({_state('failed|interrupted|stalled|lost')})"),
            steps=NONE_IS_GOOD,
        ),
        number(
            "Alerts firing",
            "Alerts of Penaltyscope for the chosen runs. The runbooks stand in alerts/runbooks.",
            now(
                'count(ALERTS{alertname=~"Penaltyscope.+", alertstate="firing", run=~"$run"})'
                " or vector(0)"
            ),
            steps=NONE_IS_GOOD,
        ),
        number(
            "Non-finite findings",
            "NaN or infinity in the input, value or gradient of any term or in the task loss,"
            " counted once per evaluation, since the runs began.",
            now(f"sum({findings()})"),
            steps=NONE_IS_GOOD,
        ),
        number(
            "Gradient norm / baseline",
            "The highest peak of any term's gradient norm within the time range, as a multiple of"
            " that term's lowest baseline of 10 minutes. Alerts at 100.",
            now(f"max({_RATIO})"),
            unit="suffix:x",
            steps=_RATIO_STEPS,
            no_value="warming up",
        ),
        number(
            "Steps per second",
            "Evaluations of all chosen runs, pipelines and ranks together.",
            now(f"sum({steps_per_second()})"),
            unit="none",
            steps=((None, "text"),),
        ),
    ]


def _state(pattern: str) -> str:
    """1 for each run in one of these states, else 0."""
    matchers = f'{RUN}, state=~"{pattern}"'
    return f"max by (run, state) ({of('run_state', matchers)})"


def _runs() -> Panel:
    panel = listing(
        "Runs",
        "The chosen runs. A name leads to that run alone. Loss and norms are the last finite ones.",
        {"run": "Run", "state": "State"},
        {
            "Last step": rows(f"max by (run) ({of('run_last_step', RUN_RANK)})"),
            "Steps/s": rows(f"sum by (run) ({steps_per_second()})"),
            "Loss": rows(f"max by (run) ({of('pipeline_loss', PIPELINE)})"),
            "Norm / baseline": rows(_RATIO),
            "Non-finite": rows(f"sum by (run) ({findings()})"),
            "Last step at": rows(
                f"max by (run) ({of('run_last_progress_timestamp_seconds', RUN_RANK)}) * 1000"
            ),
        },
        label_queries=[rows(f"max by (run, state) ({of('run_state', RUN)}) == 1")],
        sort_by="Last step at",
        descending=True,
        size=(17, 8),
    )
    return _dressed(panel)


def _dressed(panel: table.Panel) -> table.Panel:
    text = {"type": "color-text"}
    looks: dict[str, dict[str, object]] = {
        "Run": {
            "links": [
                {
                    "title": "Only this run",
                    "url": "/d/penaltyscope-runs?var-run=${__value.raw:percentencode}"
                    "&${__url_time_range}",
                }
            ]
        },
        "State": {
            "custom.width": 110,
            "mappings": mapping(BY_NAME),
            "custom.cellOptions": {"type": "color-background", "mode": "basic"},
        },
        "Last step": {"custom.width": 110, "unit": "locale"},
        "Steps/s": {"custom.width": 90, "decimals": 1},
        "Loss": {"custom.width": 110, "unit": "short", "decimals": 3},
        "Norm / baseline": {
            "custom.width": 130,
            "unit": "suffix:x",
            "decimals": 1,
            "thresholds": thresholds(_RATIO_STEPS),
            "custom.cellOptions": text,
        },
        "Non-finite": {
            "custom.width": 110,
            "unit": "locale",
            "thresholds": thresholds(NONE_IS_GOOD),
            "custom.cellOptions": text,
        },
        "Last step at": {"custom.width": 150, "unit": "dateTimeFromNow"},
    }
    for heading, look in looks.items():
        panel = column(panel, heading, look)
    return panel


def _states() -> Panel:
    numbered = " or ".join(f"{_state(state)} * {i}" for i, state in enumerate(STATES, 1))
    return states_over_time(
        "State",
        "Stalled: alive, but without a new step for long. Lost: nothing heard of it.",
        over_time(f"max by (run) ({numbered})", "{{run}}"),
        size=(7, 8),
    )
