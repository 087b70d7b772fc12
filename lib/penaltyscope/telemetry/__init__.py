"""What the training job tells the outside, through OpenTelemetry."""

from penaltyscope.telemetry._events import OTLP, Exporter
from penaltyscope.telemetry._jsonl import JSONL
from penaltyscope.telemetry._sink import Sink, Source
from penaltyscope.telemetry._watch import Watch, watch

__all__ = ["JSONL", "OTLP", "Exporter", "Sink", "Source", "Watch", "watch"]
