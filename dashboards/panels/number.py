"""One large number."""

from grafana_foundation_sdk.builders import common, prometheus, stat
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode

from dashboards.panels.place import PLAIN, Steps, place


def number(
    title: str,
    description: str,
    query: prometheus.Dataquery,
    *,
    unit: str = "none",
    steps: Steps = PLAIN,
    no_value: str = "none",
) -> stat.Panel:
    """The number now, coloured by the thresholds.

    Args:
        title: what it is.
        description: what to make of it.
        query: one series.
        unit: of the number.
        steps: the thresholds.
        no_value: what stands there when there is no series.
    """
    panel = place(stat.Panel(), title, description, [query], unit=unit, size=(4, 4), steps=steps)
    return (
        panel.color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value(no_value)
    )
