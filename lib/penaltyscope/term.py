"""A named, weighted penalty."""

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from operator import index

from torch import Tensor

Weight = float | Tensor | Callable[[int], float]
"""A number, a 0-d tensor (gradients reach it), or a schedule: a function from step to number."""

RESERVED_NAMES = frozenset({"base", "total"})
"""A term may not carry these: they name the task loss and the sum in every table of results."""

RESERVED_INPUTS = frozenset({"base", "step", "options"})
"""An input may not carry these: they are arguments of the pipeline's call."""

SINGLE_INPUT = "input"
"""The name of the tensor that is passed to a pipeline by position."""

_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Term:
    """A penalty with a name and a weight: one summand of a pipeline.

    Raises:
        TypeError: the penalty is not callable, or the weight is none of what it can be.
        ValueError: a name is empty, reserved or too long, or the weight is not finite or not 0-d.
    """

    name: str
    """Unique within a pipeline; the term's name in every event, metric and chart."""
    penalty: Callable[..., Tensor]
    """Called with the tensors named by ``inputs`` and with ``options``; returns a 0-d tensor."""
    _: KW_ONLY
    weight: Weight = 1.0
    """Any finite number (0 evaluates the term without adding it), a 0-d tensor, or a schedule."""
    inputs: tuple[str, ...] = (SINGLE_INPUT,)
    """Names of the pipeline's inputs, in the order in which the penalty takes them; or none."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments of the penalty, as they are now; ``options=`` of a call override them."""
    enabled: bool = True
    differentiable: bool = True
    """Whether the term is part of the gradient norms; a count or an argmax is not."""

    def __post_init__(self) -> None:
        check_name("name", self.name, RESERVED_NAMES)
        if not callable(self.penalty):
            raise TypeError(
                f"penalty of term {self.name!r} must be callable, got {self.penalty!r}."
            )
        if isinstance(self.inputs, str):
            raise ValueError(
                f"inputs of term {self.name!r} must be a tuple of names, got {self.inputs!r}."
            )
        for name in self.inputs:
            check_name(f"inputs of term {self.name!r}", name, RESERVED_INPUTS)
        check_weight(self.name, self.weight)
        # Engines prepare for them: not all would hear of a later change.
        object.__setattr__(self, "options", dict(self.options))


def check_name(argument: str, name: object, reserved: frozenset[str]) -> None:
    """Raises ValueError unless ``name`` is a string that can be a term's or an input's name."""
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"{argument} must be a non-empty string of at most {_LONGEST_NAME} characters, "
            f"got {name!r}."
        )
    if name in reserved:
        raise ValueError(f"{argument} must not be {name!r}: that name is reserved.")


def check_weight(name: str, weight: object) -> None:
    """Raises unless ``weight`` can be one; a tensor's content is not read."""
    if isinstance(weight, Tensor):
        if weight.dim() or not weight.is_floating_point():
            raise ValueError(
                f"weight of term {name!r} must be a 0-d floating-point tensor, "
                f"got shape {tuple(weight.shape)} of {weight.dtype}."
            )
    elif not callable(weight):
        check_number(name, weight)


def check_number(name: str, weight: object) -> float:
    """Returns the weight as a float; raises unless it is a finite number."""
    # Asked first: it is what schedules return, at every step.
    if type(weight) is float and math.isfinite(weight):
        return weight
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(
            f"weight of term {name!r} must be a number, a 0-d tensor or a schedule, "
            f"got {type(weight).__name__}."
        )
    if not math.isfinite(weight):
        raise ValueError(f"weight of term {name!r} must be finite, got {weight}.")
    return float(weight)


def check_step(step: object) -> int:
    """Returns the step as an int; raises unless it is an integer of some kind."""
    try:
        return index(step)  # type: ignore[arg-type]  # which is what is asked
    except TypeError:
        raise TypeError(f"step must be an integer, got {step!r}.") from None
