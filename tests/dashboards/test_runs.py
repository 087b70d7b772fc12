"""The dashboard of runs, as Grafana will read it."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.real_parts import ROOT
from tests.exposed import exposed
from tests.promql import groupings, selectors

PATH = ROOT / "dashboards/penaltyscope-runs.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLES = DASHBOARD["templating"]["list"]
QUERIES = [variable["query"] for variable in VARIABLES if variable["type"] == "query"]
EXPRESSIONS = [target["expr"] for panel in CHARTS for target in panel["targets"]] + [
    annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]
]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

every_chart = pytest.mark.parametrize("panel", CHARTS, ids=lambda panel: panel["title"])


def test_the_committed_files_are_what_the_code_builds(tmp_path: Path) -> None:
    # In a process of its own: the builder library warns when it is imported.
    subprocess.run([sys.executable, "-m", "dashboards.build", str(tmp_path)], cwd=ROOT, check=True)
    built = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in PATH.parent.glob("*.json")}
    assert built == committed, "run `python -m dashboards.build`"


def test_it_can_be_provisioned_again_and_again_under_the_same_address() -> None:
    assert DASHBOARD["uid"] == PATH.stem
    assert len(DASHBOARD["uid"]) <= 40
    assert DASHBOARD.get("id") is None
    assert "__inputs" not in DASHBOARD
    assert isinstance(DASHBOARD["refresh"], str)


def test_panels_have_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) >= 1


def test_panels_do_not_overlap_and_stay_within_24_columns() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


@every_chart
def test_every_panel_says_what_it_shows_with_unit_thresholds_and_datasource(
    panel: dict[str, Any],
) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_a_chart_of_each_quantity_is_there() -> None:
    shown = {metric for expression in EXPRESSIONS for metric, _ in selectors(expression)}
    quantities = (
        "value weight contribution gradient_norm_window_max gradient_norm_baseline"
        " gradient_share_ratio"
    )
    assert {f"penaltyscope_term_{quantity}" for quantity in quantities.split()} <= shown


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_rates_fit_the_scrape_interval_and_variables_stand_plain(expression: str) -> None:
    for window in re.findall(r"\b(?:rate|increase)\([^[]*\[([^]]*)\]", expression):
        assert window == "$__rate_interval"
    assert "${" not in expression
    assert "[[" not in expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_follows_the_chosen_runs_or_is_about_the_service(expression: str) -> None:
    for metric, matchers in selectors(expression):
        about_service = re.match(r"penaltyscope_(ingest|history|series)", metric)
        assert about_service or "run" in matchers, metric


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *QUERIES])
def test_no_variable_is_unknown(expression: str) -> None:
    known = {variable["name"] for variable in VARIABLES}
    used = set(re.findall(r"\$(\w+)", expression))
    assert {name for name in used if not name.startswith("__")} <= known


def test_every_metric_and_label_is_exposed_by_a_service_that_was_fed(tmp_path: Path) -> None:
    labels = exposed(tmp_path)
    for expression in EXPRESSIONS:
        found = selectors(expression)
        for metric, matchers in found:
            assert matchers <= labels.get(metric, set()), metric
        if found:
            assert groupings(expression) <= set().union(*(labels[metric] for metric, _ in found))
    for query in QUERIES:
        [(metric, matchers)] = selectors(query)
        label = query.rsplit(",", 1)[1].strip(" )")
        assert matchers | {label} <= labels[metric]
