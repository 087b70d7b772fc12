"""What the service counts about its tokens."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from penaltyscope_service.access._gate import Gate


class QuotaMetrics(Collector):
    """Series of the tokens that have a quota, and no others: they are bounded by the file."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counter, at 0 from the start."""
        family = CounterMetricFamily(
            "penaltyscope_ingest_throttled_requests",
            "Requests that were refused because their token had sent more than it may.",
            labels=("token", "tenant"),
        )
        for token, refused in self._gate.throttled():
            family.add_metric((token.name, token.tenant or ""), refused)
        yield family
