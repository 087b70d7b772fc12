"""The alert rules, their tests, their routes and their runbooks belong together."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.real_parts import ALERTS, RULES, require
from tests.exposed import exposed
from tests.promql import groupings, selectors

RULE_TESTS = sorted((ALERTS / "tests").glob("*.test.yml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERT_RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"]
}

every_alert = pytest.mark.parametrize("name", ALERT_RULES)


def clean(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_promtool_finds_nothing_in_the_rules() -> None:
    clean(require("promtool"), "check", "rules", str(RULES))


@pytest.mark.real
@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_the_rules_fire_and_clear_as_their_tests_say(file: Path) -> None:
    clean(require("promtool"), "test", "rules", str(file))


@pytest.mark.real
def test_promtool_finds_nothing_in_the_configuration_of_prometheus() -> None:
    clean(require("promtool"), "check", "config", str(ALERTS / "prometheus.yml"))


@pytest.mark.real
def test_amtool_finds_nothing_in_the_configuration_of_alertmanager() -> None:
    clean(require("amtool"), "check-config", str(ALERTS / "alertmanager.yml"))


@every_alert
def test_every_alert_says_what_it_is_how_urgent_and_what_to_do(name: str) -> None:
    rule = ALERT_RULES[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description", "dashboard", "runbook_url"}
    assert (ALERTS.parent / rule["annotations"]["runbook_url"]).stem == name
    runbook = (ALERTS.parent / rule["annotations"]["runbook_url"]).read_text()
    assert runbook.startswith(f"# {name}\n")


@every_alert
def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = [
        case
        for file in RULE_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert any(case.get("exp_alerts") for case in cases)
    assert any(not case.get("exp_alerts") for case in cases)


@every_alert
def test_every_metric_and_label_of_a_rule_is_exposed_by_a_service_that_was_fed(
    name: str, tmp_path: Path
) -> None:
    labels = exposed(tmp_path)
    rule = ALERT_RULES[name]
    text = " ".join([rule["expr"], *rule["annotations"].values()])
    assert selectors(text)
    for metric, matchers in selectors(text):
        assert matchers <= labels.get(metric, set()), metric
    known = set().union(*(labels[metric] for metric, _ in selectors(rule["expr"])))
    assert groupings(rule["expr"]) <= known | {"instance"}  # which Prometheus adds


def test_a_runbook_without_an_alert_is_not_left_behind() -> None:
    assert {page.stem for page in (ALERTS / "runbooks").glob("*.md")} == ALERT_RULES.keys()


def test_what_alertmanager_groups_and_holds_back_by_are_labels_of_the_alerts() -> None:
    config = yaml.safe_load((ALERTS / "alertmanager.yml").read_text())
    by = {*config["route"]["group_by"]} - {"alertname"}
    for rule in ALERT_RULES.values():
        # What is of the service is of no run, and needs no message of its own for each.
        own = {"instance"} if "instance" in groupings(rule["expr"]) else by
        assert own <= groupings(rule["expr"])
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            expr = ALERT_RULES[matcher.split('"')[1]]["expr"]
            assert {*rule["equal"]} <= groupings(expr)
    named = re.findall(r'alertname="(\w+)"', (ALERTS / "alertmanager.yml").read_text())
    assert set(named) <= ALERT_RULES.keys()


def test_a_nan_does_not_wait_for_the_next_message_about_an_explosion() -> None:
    config = yaml.safe_load((ALERTS / "alertmanager.yml").read_text())
    assert config["route"]["group_by"] == ["run", "alertname"]
