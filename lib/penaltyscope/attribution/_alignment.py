"""Each term's pull along the gradient that the optimizer is about to use."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from penaltyscope._fan import norm
from penaltyscope.attribution._moment import Moment
from penaltyscope.attribution._probe import Probe
from penaltyscope.attribution._record import Attribution, from_rates
from penaltyscope.attribution._slope import by_backward, by_tangent, prepare
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
    numbers and buffers, carrying that gradient as a tangent. It costs about one training step, so
    that every 20 steps it adds about a twentieth. Where an operation has no forward-mode
    derivative, each term gets a backward pass instead, which is logged once and costs as many.

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
        self._calls: list[_Call] = []
        self._derivative = by_tangent
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
        self._calls.append(_Call(forward, arguments, keywords, moment, tuple(statistics)))
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

    def _measure(self, calls: Sequence["_Call"]) -> Attribution:
        trained = [p for p in self._trained() if p.grad is not None]
        if not trained:
            raise RuntimeError("a parameter of the optimizer must have a gradient, none has.")
        direction = [_dense(p.grad) for p in trained if p.grad is not None]
        wanted = measured(self.pipeline, calls[0].statistics.layout)
        answers: list[bool] = []

        def evaluate() -> Tensor:
            rows = [self._values_again(call, wanted) for call in calls]
            answers[:] = [row[-1] is not None for row in rows]
            return torch.stack([_stacked(row) for row in rows])

        rates = self._derive(trained, direction, evaluate)
        length = torch.linalg.vector_norm(torch.stack([norm(d).to(rates) for d in direction]))
        return from_rates(
            "alignment",
            [call.statistics for call in calls],
            wanted,
            rates,
            has_base=all(answers),
            direction_norm=length,
        )

    def _derive(
        self,
        trained: Sequence[Tensor],
        direction: Sequence[Tensor],
        evaluate: Callable[[], Tensor],
    ) -> Tensor:
        if self._derivative is by_tangent:
            try:
                return by_tangent(trained, direction, evaluate)
            except (NotImplementedError, RuntimeError) as error:
                self._derivative = by_backward
                _logger.warning("each term gets a backward pass instead of a tangent: %s", error)
        return by_backward(trained, direction, evaluate)

    def _values_again(self, call: "_Call", wanted: Sequence[bool]) -> list[Tensor | None]:
        values: list[Tensor | None] = []

        def stop(_: object, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            values.extend(term_values(self.pipeline, wanted, arguments, keywords))
            raise _ReachedError

        handle = self.pipeline.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with call.moment.revisited(), _unsynchronised(self._model):
                call.forward(*call.arguments, **call.keywords)
        except _ReachedError:
            return values
        finally:
            handle.remove()
        raise RuntimeError("forward must call the pipeline, it did not when it ran again.")

    def _trained(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _devices(self) -> list[torch.device]:
        return list({p.device: None for p in self._trained()})


@dataclass(frozen=True, slots=True)
class _Call:
    """A forward pass that can be run again."""

    forward: Callable[..., object]
    arguments: tuple[object, ...]
    keywords: Mapping[str, object]
    moment: Moment
    evaluations: tuple[Statistics, ...]

    @property
    def statistics(self) -> Statistics:
        if len(self.evaluations) != 1:
            raise RuntimeError(
                f"forward must call the pipeline exactly once, got {len(self.evaluations)} calls."
            )
        return self.evaluations[0]


class _ReachedError(BaseException):
    """The pipeline was called; what would follow has happened already.

    Not an ``Exception``, so that it passes through whatever a forward pass may catch.
    """


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient.detach()


def _stacked(values: Sequence[Tensor | None]) -> Tensor:
    """``[T + 1]``, 0 for what is missing, in float32 at least."""
    like = next((v for v in values if v is not None), torch.zeros(()))
    dtype = torch.promote_types(like.dtype, torch.float32)
    zero = torch.zeros((), dtype=dtype, device=like.device)
    return torch.stack([zero if v is None else v.to(zero) for v in values])


@contextmanager
def _unsynchronised(model: nn.Module) -> Iterator[None]:
    """Keeps data-parallel wrappers from waiting for other processes, or for a backward pass."""
    names = ("require_backward_grad_sync", "require_forward_param_sync")
    wrappers = [m for m in model.modules() if isinstance(m, DistributedDataParallel)]
    before = [(m, name, getattr(m, name)) for m in wrappers for name in names]
    try:
        for wrapper, name, _ in before:
            setattr(wrapper, name, False)
        yield
    finally:
        for wrapper, name, value in before:
            setattr(wrapper, name, value)
