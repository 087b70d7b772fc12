"""A forward pass that can run again, as it ran."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from penaltyscope.attribution._moment import Moment
from penaltyscope.pipeline import Pipeline
from penaltyscope.result import Statistics

_Taken = TypeVar("_Taken")


@dataclass(frozen=True, slots=True)
class Call:
    """What ran, with what, when, and what the pipeline said then."""

    forward: Callable[..., object]
    arguments: tuple[object, ...]
    keywords: Mapping[str, object]
    moment: Moment
    evaluations: tuple[Statistics, ...]

    @property
    def statistics(self) -> Statistics:
        """Of the one evaluation.

        Raises:
            RuntimeError: there was none, or more than one.
        """
        if len(self.evaluations) != 1:
            raise RuntimeError(
                f"forward must call the pipeline exactly once, got {len(self.evaluations)} calls."
            )
        return self.evaluations[0]

    def again(
        self,
        pipeline: Pipeline,
        model: nn.Module,
        take: Callable[[tuple[Any, ...], Mapping[str, Any]], _Taken],
    ) -> _Taken:
        """Runs as far as the pipeline's call, and returns what ``take`` makes of its arguments."""
        taken: list[_Taken] = []

        def stop(_: object, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            taken.append(take(arguments, keywords))
            raise _ReachedError

        handle = pipeline.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with self.moment.revisited(), _unsynchronised(model):
                self.forward(*self.arguments, **self.keywords)
        except _ReachedError:
            return taken[0]
        finally:
            handle.remove()
        raise RuntimeError("forward must call the pipeline, it did not when it ran again.")


class _ReachedError(BaseException):
    """The pipeline was called; what would follow has happened already.

    Not an ``Exception``, so that it passes through whatever a forward pass may catch.
    """


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
