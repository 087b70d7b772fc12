"""What a built-in penalty takes for an ordinary input, which only the penalty itself can know."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from penaltyscope.penalties._constraints import consistency
from penaltyscope.penalties._divergences import entropy, js_divergence, kl_divergence
from penaltyscope.penalties._sampled import sampled_kl


def accepts_negative_infinity(
    penalty: Callable[..., Tensor], options: Mapping[str, object]
) -> bool:
    """Whether -inf in an input of ``penalty`` is a probability of 0 and no fault."""
    while isinstance(penalty, partial):
        options = {**penalty.keywords, **options}
        penalty = penalty.func
    if penalty is consistency:
        return options.get("metric") == "kl"
    return penalty in (kl_divergence, js_divergence, entropy, sampled_kl)
