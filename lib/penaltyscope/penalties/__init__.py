"""Penalties: pure functions from floating-point tensors to an unweighted 0-d tensor.

Options are keyword-only. But for ``validate``, no function reads a tensor's contents on the host,
and all of them work under ``torch.compile(fullgraph=True)``, ``torch.func.grad``, ``torch.vmap``,
autocast and double backward.
"""

from penaltyscope.penalties._constraints import consistency, orthogonality
from penaltyscope.penalties._divergences import entropy, js_divergence, kl_divergence
from penaltyscope.penalties._gradient import gradient_penalty, interpolated_gradient_penalty
from penaltyscope.penalties._inputs import accepts_negative_infinity
from penaltyscope.penalties._norms import elastic_net, l1, l2, output_magnitude_penalty
from penaltyscope.penalties._parameters import group_lasso, over_parameters, selected_parameters
from penaltyscope.penalties._sampled import sampled_kl
from penaltyscope.penalties._validation import finiteness, validate

__all__ = [
    "accepts_negative_infinity",
    "consistency",
    "elastic_net",
    "entropy",
    "finiteness",
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
    "selected_parameters",
    "validate",
]
