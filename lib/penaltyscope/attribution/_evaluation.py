"""A probe that differentiates the terms right after the pipeline has evaluated them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from penaltyscope.attribution._probe import Probe
from penaltyscope.attribution._random import RandomState
from penaltyscope.attribution._record import Attribution
from penaltyscope.attribution._terms import measured, term_values
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import PipelineResult, Statistics


class EvaluationProbe(Probe, ABC):
    """Hooks on the pipeline alone; ``every`` counts its evaluations in training mode."""

    def __init__(self, pipeline: Pipeline, *, every: int) -> None:
        super().__init__(pipeline, every=every)
        self._random: RandomState | None = None
        self._releases = [
            pipeline.register_forward_pre_hook(self._before, with_kwargs=True).remove,
            pipeline.register_forward_hook(self._after, with_kwargs=True).remove,
        ]

    @abstractmethod
    def _measure(
        self, values: Sequence[Tensor | None], wanted: Sequence[bool], statistics: Statistics
    ) -> Attribution:
        """Differentiates the values, the task loss last; their graph is that of the training."""

    def _forget(self) -> None:
        """Called after each evaluation in training."""

    def _before(self, _: object, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        if self._due() and self.pipeline.training and torch.is_grad_enabled():
            tensors = (x for x in (*arguments, *keywords.values()) if isinstance(x, Tensor))
            self._random = RandomState(x.device for x in tensors)

    def _after(
        self,
        _: object,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        result: PipelineResult,
    ) -> None:
        if not (self.pipeline.training and result.loss.requires_grad):
            return
        random, self._random = self._random, None
        self._count += 1
        if random is not None:
            self._report(lambda: self._again(random, arguments, keywords, result.statistics))
        self._forget()

    def _again(
        self,
        random: RandomState,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        statistics: Statistics,
    ) -> Attribution:
        wanted = measured(self.pipeline, statistics.layout)
        with random.revisited():
            values = term_values(self.pipeline, wanted, arguments, keywords)
        return self._measure(values, wanted, statistics)
