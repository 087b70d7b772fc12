"""Numbers over time."""

from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from dashboards.panels.place import PLAIN, Steps, place, properties

WIDE: Final = 12
"""Columns from which on a legend fits beside the lines."""


def lines(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    size: tuple[int, int],
    steps: Steps = PLAIN,
) -> timeseries.Panel:
    """Lines, with the last and the largest number of each beside its name."""
    panel = place(
        timeseries.Panel(), title, description, queries, unit=unit, size=size, steps=steps
    )
    return (
        panel.line_width(1.5)
        .show_points(VisibilityMode.NEVER)
        # Prometheus sorts series by labels: a term has the same colour in every panel of terms.
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .legend(_legend(beside=size[0] >= WIDE))
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )


def _legend(*, beside: bool) -> common.VizLegendOptions:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT if beside else LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    # Below there is room for three lines: for those that matter.
    return legend if beside else legend.sort_by("Last *").sort_desc(True)


def logarithmic(panel: timeseries.Panel) -> timeseries.Panel:
    """Decades, for what is never negative."""
    return panel.scale_distribution(
        common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)
    )


def signed_logarithmic(panel: timeseries.Panel, *, linear_below: float) -> timeseries.Panel:
    """Decades on both sides of 0, linear in between."""
    return panel.scale_distribution(
        common.ScaleDistributionConfig()
        .type(ScaleDistribution.SYMLOG)
        .log(10)
        .linear_threshold(linear_below)
    )


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Areas that add up to a whole."""
    return (
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        .fill_opacity(60)
        .line_width(0)
    )


def bars(panel: timeseries.Panel) -> timeseries.Panel:
    """Events: what is not there leaves a gap."""
    return (
        panel.draw_style(GraphDrawStyle.BARS)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        .fill_opacity(80)
        .line_width(0)
    )


def dashed(panel: timeseries.Panel, ref_id: str) -> timeseries.Panel:
    """Draws one query grey, thin, dashed and without a legend: the past beside the present."""
    style = {
        "color": {"mode": "fixed", "fixedColor": "text"},
        "custom.lineStyle": {"fill": "dash", "dash": [4, 6]},
        "custom.lineWidth": 1,
        "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
    }
    return panel.override_by_query(ref_id, properties(style))


def with_threshold_lines(panel: timeseries.Panel) -> timeseries.Panel:
    """Draws where the colour changes."""
    return panel.thresholds_style(
        common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    )
