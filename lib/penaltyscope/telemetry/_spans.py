"""Evaluations as spans, a sample of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penaltyscope.telemetry._channel import Channel
from penaltyscope.telemetry._sink import Sink, Source, needed_by

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


@dataclass(frozen=True, slots=True)
class Spans(Sink):
    """One span for each evaluation of a sample, with the numbers of its stop event.

    It is a child of the span that was current on the training thread, whose ids its events carry;
    where that one was not sampled there is none. The first evaluation that is not finite has a span
    in any case. Needs ``penaltyscope[sdk]``.
    """

    sample_ratio: float = 0.01
    """From 0 to 1."""
    endpoint: str | None = None
    """Base URL; default: that of ``watch``, then the standard variables."""
    provider: "TracerProvider | None" = None
    """Where spans are made. Default: the global provider, if the application has set one; else one
    of our own, which exports over OTLP/HTTP and ends with the watch."""
    seed: int | None = None
    """Of the sample; default: another one each time."""

    def open(self, source: Source) -> Channel:
        """A channel that makes spans.

        Raises:
            ValueError: the ratio makes no sense.
            ImportError: ``penaltyscope[sdk]`` is not installed.
        """
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"sample_ratio must be from 0 to 1, got {self.sample_ratio}.")
        from opentelemetry import trace

        with needed_by("Spans", extra="sdk"):
            from opentelemetry.sdk.trace import TracerProvider

            from penaltyscope.telemetry._spans_channel import OwnProvider, SpansChannel

        known = self.provider or trace.get_tracer_provider()
        if self.provider is not None or isinstance(known, TracerProvider):
            return SpansChannel(
                source.identity, known, sample_ratio=self.sample_ratio, seed=self.seed
            )
        with needed_by("Spans", extra="sdk"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(**source.exporter_arguments("traces", self.endpoint))
        return SpansChannel(
            source.identity,
            OwnProvider(source.identity, exporter),
            sample_ratio=self.sample_ratio,
            seed=self.seed,
        )
