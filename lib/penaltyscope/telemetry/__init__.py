"""What the training job tells the outside, through OpenTelemetry."""

from penaltyscope.telemetry._watch import Watch, watch

__all__ = ["Watch", "watch"]
