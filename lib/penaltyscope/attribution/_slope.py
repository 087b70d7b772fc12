"""Derivatives along a direction in the space of parameters, of whatever is computed with them."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from penaltyscope._norm import dot
from penaltyscope.attribution._terms import gradients_of

_ROWS: Final[Mapping[Callable[..., Any], int]] = {
    functional.linear: 1,
    functional.multi_head_attention_forward: 3,
}
"""Functions that multiply rows with weights, and how many of their arguments those rows are."""


def prepare() -> None:
    """Makes PyTorch load its formulas for tangents, which takes seconds and must not be a step."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what it loads them with
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


@contextmanager
def tangents(parameters: Sequence[Tensor], direction: Sequence[Tensor]) -> Iterator[None]:
    """What is computed here carries its derivative along the direction; nothing is recorded.

    The parameters themselves carry the direction, not copies of them: it reaches every module, tied
    weight and closure that holds one. An operation that has no forward-mode derivative raises
    ``NotImplementedError`` or ``RuntimeError``.

    Args:
        parameters: leaves.
        direction: one tensor for each of them.
    """
    with _frozen(parameters), _differentiable_kernels(), forward_ad.dual_level() as level:
        for parameter, tangent in zip(parameters, direction, strict=True):
            # What is public looks at the environment and imports before it calls this.
            dual = torch._make_dual(parameter.detach(), tangent, level)  # noqa: SLF001
            # In place: the level takes the tangent off again when it ends.
            parameter.copy_(dual)
        with torch.enable_grad(), _Tangents():
            yield


def slope(value: Tensor | None, of: Sequence[Tensor], direction: Sequence[Tensor]) -> Tensor | None:
    """0-d, by a backward pass from ``value``; None where there is no value."""
    if value is None:
        return None
    total = torch.zeros((), dtype=_wide(value), device=value.device)
    for gradient, along in zip(gradients_of(value, of), direction, strict=True):
        if gradient is not None:
            flat = (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)
            wide = _wide(flat)
            total += dot(flat.to(wide), along.reshape(-1).to(wide))
    return total


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class _Tangents(TorchFunctionMode):
    """Stops tangents where gradients are stopped; PyTorch alone lets them pass ``no_grad``.

    It also sees to it that rows times a weight are one product, as they are in training. Of a
    weight without a gradient PyTorch makes one product for each position, unless the rows lie side
    by side; in an attention that takes the batch first they do not.
    """

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is torch._C._set_grad_enabled:  # noqa: SLF001  # what no_grad calls
            torch._C._set_fwd_grad_enabled(args[0])  # noqa: SLF001
        if rows := _ROWS.get(func):
            args = (*_side_by_side(args[:rows]), *args[rows:])
        return func(*args, **(kwargs or {}))


def _side_by_side(tensors: Sequence[Any]) -> list[Any]:
    # One copy for one tensor: that an attention is to itself is told by identity.
    copies = {key: x.contiguous() for key, x in {id(x): x for x in tensors}.items()}
    return [copies[id(x)] for x in tensors]


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
