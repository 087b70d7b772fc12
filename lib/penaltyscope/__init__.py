"""Penalty terms for PyTorch losses, with every term's value, gradient norm and health."""

from penaltyscope import attribution, schedules
from penaltyscope.errors import NonFiniteError, PenaltyscopeError
from penaltyscope.gradients import TermGradients, gradient_norm
from penaltyscope.penalties import (
    consistency,
    elastic_net,
    entropy,
    finiteness,
    gradient_penalty,
    group_lasso,
    interpolated_gradient_penalty,
    js_divergence,
    kl_divergence,
    l1,
    l2,
    orthogonality,
    output_magnitude_penalty,
    over_parameters,
    sampled_kl,
    selected_parameters,
    validate,
)
from penaltyscope.pipeline import Observer, Pipeline
from penaltyscope.result import PipelineResult, TermResult
from penaltyscope.telemetry import Watch, watch
from penaltyscope.term import Term

__all__ = [
    "NonFiniteError",
    "Observer",
    "PenaltyscopeError",
    "Pipeline",
    "PipelineResult",
    "Term",
    "TermGradients",
    "TermResult",
    "Watch",
    "attribution",
    "consistency",
    "elastic_net",
    "entropy",
    "finiteness",
    "gradient_norm",
    "gradient_penalty",
    "group_lasso",
    "interpolated_gradient_penalty",
    "js_divergence",
    "kl_divergence",
    "l1",
    "l2",
    "orthogonality",
    "output_magnitude_penalty",
    "over_parameters",
    "sampled_kl",
    "schedules",
    "selected_parameters",
    "validate",
    "watch",
]
