"""Penalty terms for PyTorch losses, with every term's value, gradient norm and health."""

from penaltyscope import schedules
from penaltyscope.gradients import TermGradients, gradient_norm
from penaltyscope.penalties import (
    consistency,
    elastic_net,
    entropy,
    js_divergence,
    kl_divergence,
    l1,
    l2,
    orthogonality,
    output_magnitude_penalty,
)
from penaltyscope.pipeline import Observer, Pipeline
from penaltyscope.result import PipelineResult, TermResult
from penaltyscope.telemetry import Watch, watch
from penaltyscope.term import Term

__all__ = [
    "Observer",
    "Pipeline",
    "PipelineResult",
    "Term",
    "TermGradients",
    "TermResult",
    "Watch",
    "consistency",
    "elastic_net",
    "entropy",
    "gradient_norm",
    "js_divergence",
    "kl_divergence",
    "l1",
    "l2",
    "orthogonality",
    "output_magnitude_penalty",
    "schedules",
    "watch",
]
