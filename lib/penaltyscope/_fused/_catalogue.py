"""Which calls of penalties have a closed form."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import NamedTuple

from torch import Tensor

from penaltyscope import penalties
from penaltyscope._fused._along import along, along_form
from penaltyscope._fused._consistency import consistency
from penaltyscope._fused._divergences import js_divergence, kl_divergence
from penaltyscope._fused._entropy import entropy
from penaltyscope._fused._form import Form, Sketch, Whole
from penaltyscope._fused._norms import elastic_net, l1, l2, output_magnitude_penalty
from penaltyscope._fused._orthogonality import orthogonality

_FORMS: Mapping[Callable[..., Tensor], tuple[int, Callable[..., Form | Whole | None]]] = {
    along: (2, along_form),
    penalties.consistency: (2, consistency),
    penalties.elastic_net: (1, elastic_net),
    penalties.entropy: (1, entropy),
    penalties.js_divergence: (2, js_divergence),
    penalties.kl_divergence: (2, kl_divergence),
    penalties.l1: (1, l1),
    penalties.l2: (1, l2),
    penalties.orthogonality: (1, orthogonality),
    penalties.output_magnitude_penalty: (1, output_magnitude_penalty),
}
"""For each penalty the number of its tensors, and its closed form."""


@dataclass(frozen=True, slots=True)
class Call:
    """A penalty with its arguments."""

    penalty: Callable[..., Tensor]
    tensors: tuple[int, ...]
    """By position among the tensors of the evaluation."""
    options: Mapping[str, object]

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """What the penalty itself returns."""
        return self.penalty(*(tensors[i] for i in self.tensors), **self.options)


def may_have_form(penalty: Callable[..., Tensor]) -> bool:
    """Whether there is a closed form for at least some arguments."""
    # Only functions: a callable object need not be hashable.
    return isinstance(penalty, FunctionType) and penalty in _FORMS


class Request(NamedTuple):
    """As much of a call as its form depends on."""

    penalty: Callable[..., Tensor]
    tensors: tuple[int, ...]
    options: tuple[tuple[str, Hashable], ...]
    """Without the mask."""
    mask: int | None
    """By number: the form is the same for every mask."""
    active: bool
    """Whether its gradient counts; its value does in any case."""

    def fits(self, classes: Sequence[int]) -> bool:
        """Whether its tensors, of these classes, are distinct and may be combined."""
        kinds = {classes[x] for x in self.tensors}
        return len(kinds) == 1 and -1 not in kinds and len({*self.tensors}) == len(self.tensors)

    def form(self, sketch: Sketch) -> Form | Whole | None:
        """The closed form, or None where there is none after all.

        Raises:
            TypeError: as the penalty itself does.
            ValueError: likewise.
        """
        _, form = _FORMS[self.penalty]
        return form(sketch, *self.tensors, mask=self.mask, **dict(self.options))


def request(call: Call, masks: list[Tensor], *, active: bool) -> Request | None:
    """The request for a call's form, or None where there cannot be one.

    Args:
        call: the call.
        masks: those of earlier calls; a new one is added.
        active: whether the call's gradient counts.
    """
    if not may_have_form(call.penalty) or call.options.get("reduction") == "none":
        return None
    if _FORMS[call.penalty][0] != len(call.tensors):
        return None
    options = tuple((name, value) for name, value in call.options.items() if name != "mask")
    try:
        hash(options)
    except TypeError:
        return None
    mask = call.options.get("mask")
    number = None
    if mask is not None:
        number = _number(mask, masks)  # type: ignore[arg-type]  # a form checks what it is
    return Request(call.penalty, call.tensors, options, number, active)


def _number(mask: Tensor, masks: list[Tensor]) -> int:
    for i, known in enumerate(masks):
        if known is mask:
            return i
    masks.append(mask)
    return len(masks) - 1
