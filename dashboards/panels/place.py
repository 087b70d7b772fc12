"""What every panel has, whatever its kind."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, Threshold, ThresholdsMode

from dashboards.query import DATASOURCE

Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel | statetimeline.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, heatmap.Panel, statetimeline.Panel)

Steps = Sequence[tuple[float | None, str]]
"""Colours from a number on; the first counts from minus infinity, written None."""

# Always given: a stat panel without thresholds turns red at 80 of whatever it shows.
PLAIN: Final[Steps] = ((None, "green"),)
NONE_IS_GOOD: Final[Steps] = ((None, "green"), (1, "red"))


def place(
    panel: P,
    title: str,
    description: str,
    queries: Iterable[prometheus.Dataquery],
    *,
    unit: str,
    size: tuple[int, int],
    steps: Steps = PLAIN,
) -> P:
    """Gives a panel its text, place, queries (named A, B, …), unit and thresholds.

    Args:
        panel: a new one.
        title: what it shows.
        description: what to make of it.
        queries: in the order of their names.
        unit: of every number that has no unit of its own.
        size: width in columns, of 24, and height in rows of the grid.
        steps: the thresholds.
    """
    panel = (
        panel.title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(size[0])
        .height(size[1])
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(value=value, color=color) for value, color in steps])
        )
    )
    for i, query in enumerate(queries):
        panel = panel.with_target(query.ref_id(chr(ord("A") + i)))
    return panel


def properties(values: Mapping[str, object]) -> list[DynamicConfigValue]:
    """The form in which overrides take properties."""
    return [DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]


def thresholds(steps: Steps) -> dict[str, object]:
    """The property that gives one field thresholds of its own."""
    return {"mode": "absolute", "steps": [{"value": v, "color": color} for v, color in steps]}
