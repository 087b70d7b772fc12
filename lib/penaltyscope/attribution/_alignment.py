"""Each term's pull along the gradient that the optimizer is about to use."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from penaltyscope._fused import Fuser
from penaltyscope._norm import norms
from penaltyscope._scalar import vector
from penaltyscope.attribution._call import Call
from penaltyscope.attribution._moment import Moment
from penaltyscope.attribution._point import Point
from penaltyscope.attribution._probe import Probe
from penaltyscope.attribution._record import Attribution, from_rates
from penaltyscope.attribution._slope import prepare, slope, tangents
from penaltyscope.attribution._terms import measured, term_values
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import PipelineResult, Statistics

_logger = logging.getLogger("penaltyscope")

_Returned = TypeVar("_Returned")


class UpdateAlignment(Probe):
    """Every ``every`` steps of the optimizer: which terms drive the step, and which oppose it.

    The forward pass goes through ``run``, and nothing else changes in the loop::

        alignment = UpdateAlignment(pipeline, model, optimizer, every=20)
        for images, labels in loader:
            result = alignment.run(forward, images, labels)  # forward ends in the pipeline's call
            result.loss.backward()
            optimizer.step()  # measures first, when it is time
            optimizer.zero_grad()

    The inner products of all terms' gradients with the gradient that the optimizer finds are one
    directional derivative: the forward pass runs again on the same batch, with the same random
    numbers and buffers, carrying that gradient as a tangent. It costs 1 to 1.5 training steps, so
    that every 20 steps it adds 5 to 7 %. Where an operation has no forward-mode derivative, each
    term gets a backward pass instead, which is logged once and costs as many.

    With accumulated gradients every evaluation since the last step of the optimizer is run again.
    With several processes each answers for its own part of the batch.

    Raises:
        TypeError: ``pipeline`` is not a pipeline.
        ValueError: ``every`` is not positive.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        every: int = 20,
    ) -> None:
        super().__init__(pipeline, every=every)
        self._model = model
        self._optimizer = optimizer
        self._calls: list[Call] = []
        self._forward_mode = True
        self._fuser = Fuser()
        prepare()
        self._releases = [optimizer.register_step_pre_hook(self._before_step).remove]

    def run(
        self, forward: Callable[..., _Returned], *arguments: object, **keywords: object
    ) -> _Returned:
        """Calls ``forward``, which calls the pipeline once, and returns what it returns.

        What ``forward`` does after the pipeline's call, and what does not go through PyTorch's
        random numbers or the model's buffers, should not matter: it may run twice.
        """
        if not (self._due() and self.pipeline.training and torch.is_grad_enabled()):
            return forward(*arguments, **keywords)
        moment = self._attempted(lambda: Moment(self._model, self._devices()))
        if moment is None:
            return forward(*arguments, **keywords)
        statistics: list[Statistics] = []

        def remember(_: object, __: object, result: PipelineResult) -> None:
            statistics.append(result.statistics)

        handle = self.pipeline.register_forward_hook(remember)
        try:
            returned = forward(*arguments, **keywords)
        finally:
            handle.remove()
        self._calls.append(Call(forward, arguments, keywords, moment, tuple(statistics)))
        return returned

    def close(self) -> None:
        """Stops measuring; ``run`` still calls its function."""
        super().close()
        self._calls = []

    def _before_step(self, *_: object) -> None:
        calls, self._calls = self._calls, []
        self._count += 1
        if calls:
            self._report(lambda: self._measure(calls))

    def _measure(self, calls: Sequence[Call]) -> Attribution:
        trained = [p for p in self._trained() if p.grad is not None]
        if not trained:
            raise RuntimeError("a parameter of the optimizer must have a gradient, none has.")
        direction = [_dense(p.grad) for p in trained if p.grad is not None]
        statistics = [call.statistics for call in calls]
        wanted = measured(self.pipeline, statistics[0].layout)
        rows = self._slopes(calls, wanted, trained, direction)
        rates = torch.stack([_stacked(row) for row in rows])
        return from_rates(
            "alignment",
            statistics,
            wanted,
            rates,
            has_base=all(row[-1] is not None for row in rows),
            direction_norm=torch.linalg.vector_norm(vector(norms(direction), rates)),
        )

    def _slopes(
        self,
        calls: Sequence[Call],
        wanted: Sequence[bool],
        trained: Sequence[Tensor],
        direction: Sequence[Tensor],
    ) -> list[list[Tensor | None]]:
        """For each call the slopes of its values, the task loss last."""
        if self._forward_mode:
            try:
                with tangents(trained, direction):
                    points = [self._again(call, self._point) for call in calls]
            except (NotImplementedError, RuntimeError) as error:
                self._forward_mode = False
                _logger.warning("each term gets a backward pass instead of a tangent: %s", error)
            else:
                return [
                    p.slopes(self.pipeline, wanted, trained, direction, self._fuser) for p in points
                ]

        def differentiate(
            arguments: tuple[Any, ...], keywords: Mapping[str, Any]
        ) -> list[Tensor | None]:
            values = term_values(self.pipeline, wanted, arguments, keywords)
            return [slope(value, trained, direction) for value in values]

        with torch.enable_grad():
            return [self._again(call, differentiate) for call in calls]

    def _again(
        self, call: Call, take: Callable[[tuple[Any, ...], Mapping[str, Any]], _Returned]
    ) -> _Returned:
        return call.again(self.pipeline, self._model, take)

    def _point(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Point:
        return Point(arguments, keywords, Moment(self._model, self._devices()))

    def _trained(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _devices(self) -> list[torch.device]:
        return list({p.device: None for p in self._trained()})


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient.detach()


def _stacked(values: Sequence[Tensor | None]) -> Tensor:
    """``[T + 1]``, 0 for what is missing, in float32 at least."""
    like = next((v for v in values if v is not None), torch.zeros(()))
    dtype = torch.promote_types(like.dtype, torch.float32)
    zero = torch.zeros((), dtype=dtype, device=like.device)
    return torch.stack([zero if v is None else v.to(zero) for v in values])
