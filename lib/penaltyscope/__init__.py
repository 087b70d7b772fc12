"""Penalty terms for PyTorch losses, with every term's value, gradient norm and health.

Names are looked up when they are first used: ``penaltyscope.client`` runs without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penaltyscope import attribution, client, schedules
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

else:  # hidden from type checkers, which would believe in every name

    def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever it is
        """Imports what is asked for; the next time it is simply there."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})


_MODULES: Final = (
    "attribution",
    "client",
    "errors",
    "gradients",
    "penalties",
    "pipeline",
    "result",
    "schedules",
    "telemetry",
    "term",
)
_HOMES: Final = {
    "NonFiniteError": "errors",
    "Observer": "pipeline",
    "PenaltyscopeError": "errors",
    "Pipeline": "pipeline",
    "PipelineResult": "result",
    "Term": "term",
    "TermGradients": "gradients",
    "TermResult": "result",
    "Watch": "telemetry",
    "consistency": "penalties",
    "elastic_net": "penalties",
    "entropy": "penalties",
    "finiteness": "penalties",
    "gradient_norm": "gradients",
    "gradient_penalty": "penalties",
    "group_lasso": "penalties",
    "interpolated_gradient_penalty": "penalties",
    "js_divergence": "penalties",
    "kl_divergence": "penalties",
    "l1": "penalties",
    "l2": "penalties",
    "orthogonality": "penalties",
    "output_magnitude_penalty": "penalties",
    "over_parameters": "penalties",
    "sampled_kl": "penalties",
    "selected_parameters": "penalties",
    "validate": "penalties",
    "watch": "telemetry",
}

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
    "client",
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
