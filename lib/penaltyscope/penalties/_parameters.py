"""Penalties over a module's parameters, and the choice of which parameters count."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from penaltyscope._numerics import norm
from penaltyscope.penalties._arguments import floating, number

_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,  # noqa: SLF001 - the one base of batch and instance norms
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def group_lasso(x: Tensor, *, scale: float = 1.0, dim: int = 0) -> Tensor:
    """``scale * Σ_g √s ‖x_g‖`` over the slices of ``x`` along ``dim``, each of s elements.

    It drives whole slices to zero, such as the output channels of a weight. The gradient at a zero
    slice is zero, so that it stays there.

    Args:
        x: ``[..., G, ...]``; 0-d is a single group of one element.
        scale: Any finite number.
        dim: The dimension whose indices are the groups.

    Returns:
        A 0-d tensor of the sign of ``scale``.

    Reference:
        Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006.
    """
    number("scale", scale)
    x = floating("x", x)
    if x.dim() == 0:
        return x.abs() * scale
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be a dimension of the shape {tuple(x.shape)}, got {dim}.")
    groups = x.movedim(dim, 0)
    size = groups[:1].numel() if len(groups) else 0
    return norm(groups.reshape(len(groups), size)).sum() * (scale * math.sqrt(size))


def selected_parameters(
    module: nn.Module,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    biases: bool = False,
    norms: bool = False,
) -> dict[str, nn.Parameter]:
    """The trainable parameters that a penalty on weights is meant for, by name.

    Args:
        module: Parameters that it holds under several names count once, under the first.
        include: Shell patterns (``"encoder.*.weight"``) of names; one of them must match.
        exclude: Shell patterns of names that do not count.
        biases: Whether parameters called ``bias``, or ``bias_*`` as in recurrent layers, count.
        norms: Whether the parameters of batch, group, instance, layer and RMS norms count.

    Raises:
        ValueError: If no parameter is left, since the penalty would silently do nothing.
    """
    _check_patterns("include", include)
    _check_patterns("exclude", exclude)
    skipped = set() if norms else _norm_parameters(module)
    selected = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        and id(parameter) not in skipped
        and (biases or not _is_bias(name))
        and _matches(name, include)
        and not _matches(name, exclude)
    }
    if not selected:
        raise ValueError(
            f"include={list(include)} and exclude={list(exclude)} must leave a trainable parameter "
            f"of {type(module).__name__}, got none."
        )
    return selected


def over_parameters(
    penalty: Callable[..., Tensor],
    module: nn.Module,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    biases: bool = False,
    norms: bool = False,
) -> Callable[..., Tensor]:
    """A penalty that ignores its inputs and sums ``penalty`` over parameters of ``module``.

    The parameters are chosen now, by ``selected_parameters``; options go on to ``penalty``. The
    gradient norm of a term with it is the one by these parameters.
    """
    chosen = selected_parameters(
        module, include=include, exclude=exclude, biases=biases, norms=norms
    )
    return OverParameters(penalty, tuple(chosen.values()))


@dataclass(frozen=True, slots=True, eq=False)
class OverParameters:
    """What ``over_parameters`` makes."""

    penalty: Callable[..., Tensor]
    parameters: tuple[nn.Parameter, ...]

    def __call__(self, *_inputs: Tensor, **options: object) -> Tensor:
        """The sum, whatever the inputs are."""
        return self.of(self.parameters, **options)

    def of(self, tensors: Sequence[Tensor], **options: object) -> Tensor:
        """The same of tensors that stand for the parameters."""
        return torch.stack([self.penalty(x, **options) for x in tensors]).sum()


def _norm_parameters(module: nn.Module) -> set[int]:
    norms = (m for m in module.modules() if isinstance(m, _NORMALISATIONS))
    return {id(parameter) for norm_module in norms for parameter in norm_module.parameters()}


def _is_bias(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last == "bias" or last.startswith("bias_")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(argument: str, patterns: Sequence[str]) -> None:
    if isinstance(patterns, str):
        raise TypeError(f"{argument} must be a sequence of patterns, got the string {patterns!r}.")
