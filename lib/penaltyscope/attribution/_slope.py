"""Derivatives along a direction in the space of parameters, of whatever is computed with them.

The parameters themselves carry the direction, not copies of them: it reaches every module, tied
weight and closure that holds one.
"""

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from penaltyscope.attribution._terms import gradients_of

Evaluate = Callable[[], Tensor]


def prepare() -> None:
    """Makes PyTorch load its formulas for tangents, which takes seconds and must not be a step."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what it loads them with
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def by_tangent(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], evaluate: Evaluate
) -> Tensor:
    """One pass of forward-mode differentiation: about three forward passes, and no graph.

    Args:
        parameters: leaves that ``evaluate`` may depend on.
        direction: one tensor for each of them.
        evaluate: computes a tensor.

    Returns:
        The derivative, of the shape of what ``evaluate`` returns.

    Raises:
        NotImplementedError: an operation has no forward-mode derivative.
    """
    with _frozen(parameters), _differentiable_kernels(), forward_ad.dual_level():
        for parameter, tangent in zip(parameters, direction, strict=True):
            # In place: the level takes the tangent off again when it ends.
            parameter.copy_(forward_ad.make_dual(parameter.detach(), tangent))
        with torch.enable_grad(), _NoGradMeansNoTangent():
            value = evaluate()
        tangent = forward_ad.unpack_dual(value).tangent
        return torch.zeros_like(value) if tangent is None else tangent.clone()


def by_backward(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], evaluate: Evaluate
) -> Tensor:
    """One backward pass for each element of the result: dearer, but whatever is trained has one.

    Takes and returns what ``by_tangent`` does.
    """
    with torch.enable_grad():
        value = evaluate()
    slopes = torch.zeros_like(value)
    for index in itertools.product(*map(range, value.shape)):
        gradients = gradients_of(value[index], parameters)
        for gradient, along in zip(gradients, direction, strict=True):
            if gradient is not None:
                slopes[index] += (gradient * along).sum()
    return slopes


class _NoGradMeansNoTangent(TorchFunctionMode):
    """Stops tangents where gradients are stopped; PyTorch alone lets them pass ``no_grad``."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is torch._C._set_grad_enabled:  # noqa: SLF001  # what no_grad calls
            torch._C._set_fwd_grad_enabled(args[0])  # noqa: SLF001
        return func(*args, **(kwargs or {}))


@contextmanager
def _frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Without a graph, though gradients are enabled wherever training has them enabled."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _differentiable_kernels() -> Iterator[None]:
    """Fused kernels have no forward-mode derivative, and compiled ones would lose the tangents."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # it takes seconds to import, and then nothing uses it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
