"""The terms of one call of a pipeline, evaluated plainly."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Layout
from penaltyscope.term import SINGLE_INPUT


def measured(pipeline: Pipeline, layout: Layout) -> list[bool]:
    """For each term whether it has a gradient that can be asked for."""
    return [e and t.differentiable for e, t in zip(layout.enabled, pipeline.terms, strict=True)]


class Application(NamedTuple):
    """A penalty, and what it is called with."""

    penalty: Callable[..., Tensor]
    tensors: Sequence[Tensor]
    options: Mapping[str, object]

    def value(self) -> Tensor:
        """What it returns."""
        return self.penalty(*self.tensors, **self.options)


def applications(
    pipeline: Pipeline,
    wanted: Sequence[bool],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> list[Application | None]:
    """That of each wanted term.

    Arguments and keywords are those that the pipeline was called with.
    """
    given = dict(keywords)
    if arguments:
        given[SINGLE_INPUT] = arguments[0]
    options = keywords.get("options") or {}
    return [
        Application(
            term.penalty,
            [given[name] for name in term.inputs],
            {**term.options, **options.get(term.name, {})},
        )
        if evaluated
        else None
        for term, evaluated in zip(pipeline.terms, wanted, strict=True)
    ]


def term_values(
    pipeline: Pipeline,
    wanted: Sequence[bool],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> list[Tensor | None]:
    """Unweighted value of each wanted term, and the task loss last; None where there is none."""
    applied = applications(pipeline, wanted, arguments, keywords)
    return [*(None if a is None else a.value() for a in applied), keywords.get("base")]


def gradients_of(
    value: Tensor | None, of: Sequence[Tensor] | Sequence[GradientEdge]
) -> tuple[Tensor | None, ...]:
    """One gradient for each, None where there is none; the graph is kept for training."""
    if value is None or not value.requires_grad:
        return (None,) * len(of)
    return torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
