"""How a histogram moves over time."""

from grafana_foundation_sdk.builders import heatmap, prometheus
from grafana_foundation_sdk.models.common import TooltipDisplayMode
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale

from dashboards.panels.place import place


def distribution(
    title: str,
    description: str,
    query: prometheus.Dataquery,
    *,
    unit: str,
    size: tuple[int, int],
) -> heatmap.Panel:
    """A heatmap of buckets; ``unit`` is that of their bounds, colours are events per second."""
    panel = place(heatmap.Panel(), title, description, [query], unit="cps", size=size)
    return (
        panel.y_axis(heatmap.YAxisConfig().unit(unit))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Turbo")
            # Rare, extreme events are what one looks for: the square root lifts them.
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .tooltip(heatmap.HeatmapTooltip().mode(TooltipDisplayMode.SINGLE).y_histogram(True))
    )
