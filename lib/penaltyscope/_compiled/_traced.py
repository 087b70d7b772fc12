"""Calls without a closed form: differentiated by ``torch.func`` inside the graph."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._apart import compiled_apart
from penaltyscope._fused import Call, Form, Sketch, Whole
from penaltyscope._scalar import sum_dtype

_logger = logging.getLogger("penaltyscope")


class Traced(NamedTuple):
    """A penalty, and what is not the same at every step; a graph takes tensors in it as inputs."""

    penalty: Callable[..., Tensor]
    order: tuple[int, ...]
    """The places of its arguments among its distinct tensors."""
    options: Mapping[str, Any]


class TracedRequest(NamedTuple):
    """As much of such a call as a plan depends on."""

    penalty: int
    """Its identity."""
    tensors: tuple[int, ...]
    """Distinct."""
    wanted: tuple[bool, ...]
    """For each whether the gradient by it is."""
    mask: None = None
    active: bool = True

    def fits(self, classes: Sequence[int]) -> bool:
        """Whether what is differentiated by is not empty."""
        return all(
            classes[x] >= 0 or not on for x, on in zip(self.tensors, self.wanted, strict=True)
        )

    def form(self, _sketch: Sketch) -> Form | Whole | None:
        """One that the graph replaces by what is traced at that step."""
        return Whole(_replaced, "element")


def traced(call: Call) -> Traced:
    """The call as a graph takes it; its tensors are those of ``distinct``."""
    own = distinct(call)
    return Traced(call.penalty, tuple(own.index(x) for x in call.tensors), call.options)


def distinct(call: Call) -> tuple[int, ...]:
    """The call's tensors, each once."""
    return tuple(dict.fromkeys(call.tensors))


def value_and_slopes(
    call: Traced, tensors: Sequence[Tensor], wanted: Sequence[bool]
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """The value, and gradients in the dtype of their sums by the tensors for which one is wanted.

    Args:
        call: what to evaluate.
        tensors: distinct.
        wanted: for each.
    """
    places = [i for i, on in enumerate(wanted) if on]

    def value(*moving: Tensor) -> Tensor:
        chosen = [*tensors]
        for i, x in zip(places, moving, strict=True):
            chosen[i] = x
        return call.penalty(*(chosen[i] for i in call.order), **call.options)

    if not places:
        return value(), [None] * len(tensors)
    differentiate = torch.func.grad_and_value(value, argnums=tuple(range(len(places))))
    found, result = differentiate(*(tensors[i] for i in places))
    slopes: list[Tensor | None] = [None] * len(tensors)
    for i, slope in zip(places, found, strict=True):
        slopes[i] = slope.to(sum_dtype(slope))
    return result, slopes


def can_be_traced(call: Call, tensors: Sequence[Tensor], wanted: Sequence[bool]) -> bool:
    """Whether a call goes into a graph; one that cannot be traced is logged.

    Args:
        call: without a closed form.
        tensors: all of the evaluation, without a graph.
        wanted: for each whether the gradient by it is.
    """
    own = distinct(call)
    chosen = [tensors[x] for x in own]
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.enable_grad():
                value = call(tensors)
            # Whatever way it has to what it learns, the result tells. Other results than numbers
            # are for the split engine to complain of.
            if not isinstance(value, Tensor) or value.requires_grad or value.dim():
                return False
        except Exception:  # noqa: BLE001  # the split engine will raise it
            return False
        try:
            run = compiled_apart(value_and_slopes, "eager")
            with torch.no_grad():
                run(traced(call), chosen, [wanted[x] for x in own])
        except Exception as error:  # noqa: BLE001  # whatever it is: there is another engine
            _logger.warning("compile=True: %r is not in the graph: %s", call.penalty, error)
            return False
    return value.is_floating_point()


def _replaced(*_: object) -> tuple[Tensor, Sequence[Tensor | None]]:
    raise AssertionError("a traced call has no form of its own")
