"""The dashboard of runs: one row after the other, from "which run" to "is that all of it"."""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    RowPanel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.table import Options as TableOptions

from dashboards.panels.place import Panel
from dashboards.query import DATASOURCE, RUN, over_time
from dashboards.rows import findings, ingest, loss, overview, speed, terms

UID: Final = "penaltyscope-runs"

# Grafana 10 and newer read it; a newer one migrates it when it loads the file.
_SCHEMA_VERSION: Final = 39

_ROWS: Final = {
    "Terms": terms,
    "Loss": loss,
    "Speed and distributions": speed,
    "Ingest and recording": ingest,
}


def build() -> Dashboard:
    """The whole dashboard, panels numbered from 1."""
    board = (
        dashboard.Dashboard("Penaltyscope / Runs")
        .uid(UID)
        .description("Penalty terms of training runs: which went NaN, where, since when.")
        .tags(["penaltyscope"])
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .annotation(_alerts())
    )
    for name, query in _variables().items():
        variable = _variable(name, query)
        # Without tenants there is none to list.
        board = board.with_variable(variable.all_value(".*") if name == "tenant" else variable)
    board = _with(board, [*overview.panels(), *findings.panels()])
    for title, row in _ROWS.items():
        board = _with(board.with_row(dashboard.Row(title)), row.panels())
    built = board.build()
    built.schema_version = _SCHEMA_VERSION
    for number, panel in enumerate(built.panels or [], 1):
        panel.id_val = number
        if not isinstance(panel, RowPanel) and isinstance(panel.options, TableOptions):
            panel.options.footer = None  # the builder's default, which Grafana no longer knows
    return built


def _with(board: dashboard.Dashboard, panels: Sequence[Panel]) -> dashboard.Dashboard:
    for panel in panels:
        board = board.with_panel(panel)
    return board


def _variables() -> dict[str, str]:
    """Each narrows the choice of the next ones."""
    steps = "penaltyscope_pipeline_steps_total"
    return {
        "tenant": "label_values(penaltyscope_run_info, tenant)",
        "run": 'label_values(penaltyscope_run_info{tenant=~"$tenant"}, run)',
        "pipeline": f"label_values({steps}{{{RUN}}}, pipeline)",
        "term": f'label_values(penaltyscope_term_value{{{RUN}, pipeline=~"$pipeline"}}, term)',
        "rank": f"label_values({steps}{{{RUN}}}, rank)",
    }


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(text="All", value="$__all", selected=True))
    )


def _alerts() -> dashboard.AnnotationQuery:
    """Marks the time during which an alert fired; a 0 marks nothing."""
    expr = (
        'max by (alertname, run) (ALERTS{alertname=~"Penaltyscope.+", alertstate="firing",'
        ' run=~"$run"}) or vector(0)'
    )
    return (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("red")
        .target(over_time(expr, "").ref_id("Anno"))
        .expr(expr)
        .title_format("{{alertname}}")
        .text_format("{{run}}")
    )
