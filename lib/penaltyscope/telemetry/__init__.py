"""What the training job tells the outside, through OpenTelemetry."""

from penaltyscope.telemetry._events import OTLP, Exporter
from penaltyscope.telemetry._jsonl import JSONL
from penaltyscope.telemetry._logging import Logging
from penaltyscope.telemetry._metrics import Metrics
from penaltyscope.telemetry._sink import Sink, Source
from penaltyscope.telemetry._spans import Spans
from penaltyscope.telemetry._watch import Watch, watch

__all__ = [
    "JSONL",
    "OTLP",
    "Exporter",
    "Logging",
    "Metrics",
    "Sink",
    "Source",
    "Spans",
    "Watch",
    "watch",
]
