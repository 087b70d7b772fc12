"""A table that joins queries by their labels."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import common, prometheus, table
from grafana_foundation_sdk.models.common import TableCellHeight
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from dashboards.panels.place import place, properties


def listing(
    title: str,
    description: str,
    labels: Mapping[str, str],
    columns: Mapping[str, prometheus.Dataquery],
    *,
    label_queries: Sequence[prometheus.Dataquery] = (),
    sort_by: str,
    descending: bool = False,
    size: tuple[int, int],
) -> table.Panel:
    """One row per combination of labels, one column per label and per query.

    Args:
        title: what it lists.
        description: what to make of it.
        labels: the headings of the labels that the queries keep, in order.
        columns: the queries by the headings of their values, at least two.
        label_queries: queries that give labels, and whose values stay hidden.
        sort_by: a heading.
        descending: the largest first.
        size: width in columns, of 24, and height in rows of the grid.
    """
    queries = [*columns.values(), *label_queries]
    panel = place(table.Panel(), title, description, queries, unit="none", size=size)
    values = [f"Value #{chr(ord('A') + i)}" for i in range(len(queries))]
    names = dict(labels) | dict(zip(values, columns, strict=False))
    hidden = ["Time", *values[len(columns) :]]
    return (
        panel.cell_height(TableCellHeight.SM)
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(descending)])
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(hidden, True),
                    "indexByName": {name: i for i, name in enumerate(names)},
                    "renameByName": names,
                },
            )
        )
    )


def column(panel: table.Panel, heading: str, look: Mapping[str, object]) -> table.Panel:
    """How one column looks, as Grafana's field properties."""
    return panel.override_by_name(heading, properties(look))
