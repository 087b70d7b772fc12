"""Metrics for whoever has a Collector, and no service of this project."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._environment import export_interval_seconds
from penaltyscope.telemetry._sink import Sink, Source, needed_by
from penaltyscope_events import resource_attributes

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


@dataclass(frozen=True, slots=True)
class Metrics(Sink):
    """Gauges, counters and histograms of terms and pipelines, through OpenTelemetry's SDK.

    Needs ``penaltyscope[sdk]``.
    """

    endpoint: str | None = None
    """Base URL; default: that of ``watch``, then the standard variables."""
    interval_seconds: float | None = None
    """Between two exports; default: ``OTEL_METRIC_EXPORT_INTERVAL``, or a minute."""
    distributions: bool = True
    """Whether there are histograms; the SDK takes each number of them one by one."""
    provider: "MeterProvider | None" = None
    """Where instruments are made. Default: the global provider, if the application has set one;
    else one of our own, which exports over OTLP/HTTP and ends with the watch."""

    def open(self, source: Source) -> Channel:
        """A channel that fills the instruments.

        Raises:
            ValueError: the interval makes no sense.
            ImportError: ``penaltyscope[sdk]`` is not installed.
        """
        from opentelemetry import metrics

        with needed_by("Metrics", extra="sdk"):
            from opentelemetry.sdk.metrics import MeterProvider

            from penaltyscope.telemetry._metrics_channel import MetricsChannel

        interval = export_interval_seconds(source.environment, self.interval_seconds)
        known = self.provider or metrics.get_meter_provider()
        own = self.provider is None and not isinstance(known, MeterProvider)
        return MetricsChannel(
            source,
            self._own_provider(source) if own else known,
            own=own,
            interval_seconds=interval,
            distributions=self.distributions,
        )

    def _own_provider(self, source: Source) -> "MeterProvider":
        with needed_by("Metrics", extra="sdk"):
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource

        exporter = OTLPMetricExporter(**source.exporter_arguments("metrics", self.endpoint))
        # Read when we say so: a periodic reader's thread would start again in forked children.
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        resource = Resource(resource_attributes(source.identity))
        return MeterProvider([reader], resource=resource, shutdown_on_exit=False)
