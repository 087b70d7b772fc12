"""Counters and histograms of one label that only one thread changes.

Those of ``prometheus_client`` take a lock for every sample they touch, which for a small request
would be a fifth of the work of answering it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_INFINITY: Final = "+Inf"


class Counts(Collector):
    """A counter for each value of a label, at 0 from the start."""

    def __init__(
        self, name: str, text: str, label: str, values: Iterable[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._counts = dict.fromkeys(values, 0)
        registry.register(self)

    def add(self, value: str, count: int) -> None:
        """So many more."""
        self._counts[value] += count

    def collect(self) -> Iterator[Metric]:
        """As they are now."""
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family


class Distribution:
    """How many of what was observed are at most as large as each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """As it is now."""
        bounds = (*map(str, map(float, self._bounds)), _INFINITY)
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric(labels, buckets, self._sum)


class Distributions(Collector):
    """A histogram for each value of a label, or one without."""

    def __init__(
        self,
        name: str,
        text: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
        *,
        label: str = "",
        values: Iterable[str] = ("",),
    ) -> None:
        self._name, self._text = name, text
        self._labels = [label] if label else []
        self.of: Final = {value: Distribution(bounds) for value in values}
        """By the label's value."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """As they are now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for value, distribution in self.of.items():
            distribution.add_to(family, [value] if self._labels else [])
        yield family
