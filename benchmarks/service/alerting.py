"""From a step that is NaN to the notification, through real processes."""

import math
import statistics
import tempfile
import time
from pathlib import Path
from shutil import which

import httpx

from benchmarks.service.row import Row
from tests.end_to_end.real_parts import ALERTS, PARTS, alertmanager, prometheus, service, wait_for
from tests.end_to_end.sender import Sender
from tests.end_to_end.webhook import webhook


def rows(rounds: int) -> list[Row]:
    """The shipped rules; everything that has an interval has one of a second."""
    if not all(any(map(which, PARTS[name])) for name in ("prometheus", "alertmanager")):
        return []
    config = (ALERTS / "alertmanager.yml").read_text().replace("group_wait: 5s", "group_wait: 1s")
    seconds = []
    with (
        tempfile.TemporaryDirectory() as folder,
        webhook() as hook,
        service(Path(folder) / "service") as watched,
        alertmanager(
            Path(folder) / "alertmanager",
            config=config.replace("http://127.0.0.1:5001/", hook.url),
        ) as manager,
        prometheus(
            Path(folder) / "prometheus", target=watched.url, alertmanager=manager.url
        ) as watcher,
        httpx.Client(base_url=watched.url) as client,
    ):
        for i in range(rounds):
            run = Sender(client, f"run-{i}")
            run.start()
            run.steps(8)
            expression = f'penaltyscope_pipeline_steps_total{{run="run-{i}"}}'
            wait_for("a scrape", lambda: watcher.query(expression))  # noqa: B023  # called at once
            began = time.monotonic()
            run.steps(1, value={"distill": math.nan})
            wait_for("the webhook", lambda: hook.alerts("firing", run=f"run-{i}"))  # noqa: B023
            seconds.append(time.monotonic() - began)
    name = "NaN step to webhook; scrapes, rules and grouping every second"
    return [Row(name, statistics.median(seconds), "s", 4)]
