"""The states of runs: their order, their colours, and a band of them over time."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import common, prometheus, statetimeline
from grafana_foundation_sdk.models.common import TooltipDisplayMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

from dashboards.panels.place import place

_COLORS: Final = {
    "running": "blue",
    "finished": "green",
    "interrupted": "yellow",
    "stalled": "orange",
    "lost": "purple",
    "failed": "red",
}
STATES: Final = tuple(_COLORS)
"""Numbered from 1 where a panel needs numbers."""

BY_NAME: Final = {
    state: ValueMappingResult(text=state, color=color, index=i)
    for i, (state, color) in enumerate(_COLORS.items())
}
BY_NUMBER: Final = {str(i): result for i, result in enumerate(BY_NAME.values(), 1)}


def mapping(results: Mapping[str, ValueMappingResult]) -> list[ValueMap]:
    """The value mapping of a column or panel."""
    return [ValueMap(options=dict(results))]


def states_over_time(
    title: str, description: str, query: prometheus.Dataquery, *, size: tuple[int, int]
) -> statetimeline.Panel:
    """One band per run; the query gives the numbers of states."""
    panel = place(statetimeline.Panel(), title, description, [query], unit="none", size=size)
    return (
        panel.mappings([*mapping(BY_NUMBER)])
        .show_value(VisibilityMode.AUTO)
        .row_height(0.8)
        .merge_values(True)
        .line_width(0)
        .fill_opacity(75)
        .legend(common.VizLegendOptions().show_legend(False))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.SINGLE))
    )
