"""A step that goes wrong, from the request with it to the notification, over real processes."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.real_parts import (
    ALERTS,
    RULES,
    Part,
    Prometheus,
    alertmanager,
    prometheus,
    service,
    wait_for,
)
from tests.end_to_end.sender import Sender
from tests.end_to_end.webhook import Webhook, webhook

pytestmark = pytest.mark.real

# The shipped rules and routes but for their memory, so that clearing can be watched. The times as
# shipped are tested by promtool, where they cost nothing.
SHORT = {
    r"\b5m\b": "15s",
    r"\b3m\b": "6s",
    r"\[1m\]": "[3s]",
    "group_interval: 1m": "group_interval: 1s",
}
WINDOW = ("--window-seconds", "2")


@dataclass(frozen=True)
class Chain:
    service: Part
    client: httpx.Client
    prometheus: Prometheus
    hook: Webhook


def shortened(path: Path) -> str:
    text = path.read_text()
    for pattern, short in SHORT.items():
        text = re.sub(pattern, short, text)
    return text


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with webhook() as hook, service(tmp_path / "service", flags=WINDOW) as watched:
        config = shortened(ALERTS / "alertmanager.yml").replace("http://127.0.0.1:5001/", hook.url)
        with (
            alertmanager(tmp_path / "alertmanager", config=config) as manager,
            prometheus(
                tmp_path / "prometheus",
                target=watched.url,
                rules=shortened(RULES),
                alertmanager=manager.url,
            ) as prom,
            httpx.Client(base_url=watched.url) as client,
        ):
            yield Chain(watched, client, prom, hook)


def scraped(chain: Chain, expression: str, value: float) -> None:
    """Waits until Prometheus has the value and has judged it."""
    wait_for(expression, lambda: [v for _, v in chain.prometheus.query(expression)] == [value])
    judged(chain)


def judged(chain: Chain) -> None:
    """Waits until the rules have been evaluated once more."""
    before = chain.prometheus.evaluated()
    wait_for("an evaluation", lambda: chain.prometheus.evaluated() != before)


def test_a_nonfinite_step_is_told_within_15_seconds_in_one_message_and_then_cleared(
    chain: Chain,
) -> None:
    healthy, bad = Sender(chain.client, "healthy"), Sender(chain.client, "bad", rank=3)
    for run in (healthy, bad):
        run.start()
        run.steps(100)
    scraped(chain, "sum(penaltyscope_pipeline_steps_total)", 200)
    assert chain.prometheus.firing() == []
    assert chain.hook.notifications == []

    # It explodes and goes NaN at once: the second is told, the first held back.
    bad.steps(1, value={"kl(q|p)": math.nan}, gradient_norm={"kl(q|p)": math.nan, "distill": 5e6})
    healthy.steps(1)
    wait_for("the alert", lambda: chain.hook.alerts("firing"), seconds=15)
    [notification] = chain.hook.notifications
    assert notification["groupLabels"] == {"run": "bad", "alertname": "PenaltyscopeNonFinite"}
    told = [alert["labels"] for alert in notification["alerts"]]
    common = {
        "alertname": "PenaltyscopeNonFinite",
        "severity": "page",
        "run": "bad",
        "pipeline": "distillation",
        "term": "kl(q|p)",
        "rank": "3",
        "kind": "nan",
    }
    assert sorted(told, key=lambda labels: labels["stage"]) == [
        common | {"stage": "gradient"},
        common | {"stage": "value"},
    ]
    summaries = [alert["annotations"]["summary"] for alert in notification["alerts"]]
    assert "bad: NaN in the gradient of term kl(q|p), rank 3" in summaries
    assert all("step 100." in a["annotations"]["description"] for a in notification["alerts"])

    wait_for("clearing", lambda: len(chain.hook.alerts("resolved", run="bad")) == 2)
    judged(chain)
    assert chain.prometheus.firing() == []
    # Neither the healthy run nor the explosion that ended in NaN was told at any time.
    alerts = chain.hook.alerts("firing")
    assert {alert["labels"]["run"] for alert in alerts} == {"bad"}
    assert {alert["labels"]["alertname"] for alert in alerts} == {"PenaltyscopeNonFinite"}


def test_a_run_that_is_nonfinite_before_its_first_scrape_is_told(chain: Chain) -> None:
    bad = Sender(chain.client, "born bad")
    bad.steps(3, value={"sparsity": math.inf})
    bad.end("failed")
    wait_for(
        "the alert",
        lambda: chain.hook.alerts("firing", run="born bad", term="sparsity", kind="inf"),
        seconds=15,
    )


def test_a_gradient_norm_far_above_its_own_past_is_told(chain: Chain) -> None:
    run = Sender(chain.client, "climbing")
    run.steps(100, gradient_norm={"distill": 0.2})
    scraped(chain, "penaltyscope_term_gradient_norm_baseline{term='distill'}", 0.2)
    assert chain.prometheus.firing() == []
    run.steps(1, gradient_norm={"distill": 24.0})
    wait_for("the alert", lambda: chain.hook.alerts("firing"), seconds=15)
    [alert] = chain.hook.alerts("firing")
    assert alert["labels"] == {
        "alertname": "PenaltyscopeGradientNormExploding",
        "severity": "page",
        "run": "climbing",
        "pipeline": "distillation",
        "term": "distill",
    }
    assert "peaked at 24; its baseline was 0.2." in alert["annotations"]["description"]
    wait_for("clearing", lambda: chain.hook.alerts("resolved", run="climbing"))


def test_a_restart_of_the_service_loses_no_count_and_repeats_no_alert(
    chain: Chain, tmp_path: Path
) -> None:
    run = Sender(chain.client, "bad")
    run.steps(100)
    run.steps(1, value={"distill": math.nan})
    wait_for("the alert", lambda: chain.hook.alerts("firing"), seconds=15)
    wait_for("clearing", lambda: chain.hook.alerts("resolved"))

    port = int(chain.service.url.rsplit(":", 1)[1])
    chain.service.kill()
    wait_for("the loss", lambda: [v for _, v in chain.prometheus.query("up")] == [0])
    with service(tmp_path / "service", port=port, flags=WINDOW):
        scraped(chain, "sum(penaltyscope_pipeline_steps_total)", 101)
        assert [v for _, v in chain.prometheus.query("penaltyscope_nonfinite_total > 0")] == [1]
        judged(chain)
        assert chain.prometheus.firing() == []
    assert len(chain.hook.alerts("firing")) == 1


def test_the_same_counts_are_in_the_api_the_metrics_and_prometheus(chain: Chain) -> None:
    run = Sender(chain.client, "counted")
    run.start()
    run.steps(64)
    run.steps(7, value={"distill": math.nan})
    run.steps(29)
    run.steps(5, gradient_norm={"distill": math.inf})

    detail = chain.service.get("/api/runs/counted").json()
    assert (detail["steps"], detail["nonfinite_steps"], detail["last_step"]) == (105, 12, 104)
    assert detail["first_nonfinite"]["step"] == 64

    metrics = chain.service.get("/metrics").text
    assert samples(metrics, "penaltyscope_pipeline_steps_total") == [105]
    assert sorted(samples(metrics, "penaltyscope_nonfinite_total"))[-3:] == [0, 5, 7]

    scraped(chain, "sum(penaltyscope_pipeline_steps_total)", 105)
    found = chain.prometheus.query("penaltyscope_nonfinite_total > 0")
    assert {(s["term"], s["stage"], s["kind"]): v for s, v in found} == {
        ("distill", "value", "nan"): 7,
        ("distill", "gradient", "inf"): 5,
    }
    assert chain.prometheus.query("penaltyscope_ingest_duplicate_records_total")[0][1] == 0


def samples(metrics: str, name: str) -> list[float]:
    """The values of every series of a family in the text format."""
    return [
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith((name + "{", name + " "))
    ]
