"""What a service shows on ``/metrics`` once it has been fed."""

from collections import defaultdict
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.real_parts import service
from tests.end_to_end.sender import Sender

STEPS = 200
"""Enough for a baseline."""


def exposed(directory: Path) -> dict[str, set[str]]:
    """The labels of every sample's name, of a service that has a run with everything in it."""
    labels: dict[str, set[str]] = defaultdict(set)
    with service(directory / "data") as part, httpx.Client(base_url=part.url) as client:
        run = Sender(client, "fed", tags={"model": "resnet"})
        run.start()
        run.steps(STEPS)
        run.heartbeat()
        text = client.get("/metrics").raise_for_status().text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels[sample.name] |= sample.labels.keys()
    return dict(labels)
