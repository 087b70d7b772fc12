"""The terms of one call of a pipeline, evaluated plainly."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Layout
from penaltyscope.term import SINGLE_INPUT


def measured(pipeline: Pipeline, layout: Layout) -> list[bool]:
    """For each term whether it has a gradient that can be asked for."""
    return [e and t.differentiable for e, t in zip(layout.enabled, pipeline.terms, strict=True)]


def term_values(
    pipeline: Pipeline,
    wanted: Sequence[bool],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> list[Tensor | None]:
    """Unweighted value of each wanted term, and the task loss last; None where there is none.

    Arguments and keywords are those that the pipeline was called with.
    """
    given = dict(keywords)
    if arguments:
        given[SINGLE_INPUT] = arguments[0]
    options = keywords.get("options") or {}
    values: list[Tensor | None] = []
    for term, evaluated in zip(pipeline.terms, wanted, strict=True):
        tensors = [given[name] for name in term.inputs] if evaluated else []
        chosen = {**term.options, **options.get(term.name, {})}
        values.append(term.penalty(*tensors, **chosen) if evaluated else None)
    return [*values, keywords.get("base")]


def gradients_of(
    value: Tensor | None, of: Sequence[Tensor] | Sequence[GradientEdge]
) -> tuple[Tensor | None, ...]:
    """One gradient for each, None where there is none; the graph is kept for training."""
    if value is None or not value.requires_grad:
        return (None,) * len(of)
    return torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
