"""A graph run once more, without the compiler's questions: its own are few and quick.

Before every run a compiler looks at all that a graph may depend on, which for small tensors takes
half as long as the run. What ours depend on, unless they have functions of a user's in them, is
known: constants, and of what is given its kinds, shapes and strides.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from penaltyscope._compiled._graph import Inputs, Outputs


class _Run(NamedTuple):
    """A run of what a backend has compiled."""

    compiled: Callable[..., Sequence[Any]]
    inputs: Sequence[object]
    outputs: Sequence[Any]


class Recorder:
    """A backend that remembers the last run."""

    def __init__(self, backend: Callable[..., Any]) -> None:
        self._backend = backend
        self._last: _Run | None = None

    def __call__(self, module: object, examples: object, **options: object) -> Callable[..., Any]:
        """What the backend itself makes of a module, as a function that is remembered."""
        compiled = self._backend(module, examples, **options)

        def run(*inputs: object) -> Sequence[Any]:
            outputs: Sequence[Any] = compiled(*inputs)
            self._last = _Run(compiled, inputs, outputs)
            return outputs

        return run

    def take(self) -> _Run | None:
        """The last run, which is then forgotten; None if there is none."""
        last, self._last = self._last, None
        return last


class Direct:
    """A run that can be had again with other tensors of the same kind."""

    def __init__(
        self,
        compiled: Callable[..., Sequence[Any]],
        inputs: Sequence[object],
        leaves: Sequence[tuple[int, int]],
        outputs: Sequence[int | None],
    ) -> None:
        """Takes down what goes where.

        Args:
            compiled: what ran.
            inputs: of it, and None where a tensor is given.
            leaves: the places of those tensors, and their numbers among all that are given.
            outputs: places of the numbers, of the Gram matrix if there is one, and of gradients.
        """
        self._compiled = compiled
        self._inputs = inputs
        self._leaves = leaves
        self._numbers, self._gram, *self._gradients = outputs

    @classmethod
    def of(
        cls, run: _Run | None, given: Inputs, constants: Sequence[Tensor], outputs: Outputs
    ) -> "Direct | None":
        """One like a run; None if it is not known where all of its inputs came from.

        Args:
            run: what the compiler did.
            given: what it was asked for.
            constants: tensors that are always the same.
            outputs: what came out.
        """
        if run is None:
            return None
        number = {id(x): i for i, x in enumerate(tensors_of(given))}
        own = {id(x) for x in constants}
        leaves = [(place, number[id(x)]) for place, x in enumerate(run.inputs) if id(x) in number]
        rest = [x for x in run.inputs if id(x) not in number]
        # A size is a number, and the same for the same shapes.
        if not all(type(x) is int or id(x) in own for x in rest):
            return None
        place = {id(x): i for i, x in enumerate(run.outputs)}
        wanted = outputs.numbers, outputs.gram, *outputs.gradients
        if not all(x is None or id(x) in place for x in wanted):
            return None
        return cls(
            run.compiled,
            [None if id(x) in number else x for x in run.inputs],
            leaves,
            [None if x is None else place[id(x)] for x in wanted],
        )

    def __call__(self, given: Inputs) -> Outputs:
        """What the graph returns."""
        tensors, inputs = tensors_of(given), [*self._inputs]
        for place, number in self._leaves:
            inputs[place] = tensors[number]
        found = self._compiled(*inputs)
        return Outputs(
            found[self._numbers],
            None if self._gram is None else found[self._gram],
            [found[place] for place in self._gradients],
        )


def tensors_of(given: Inputs) -> list[Tensor]:
    """The tensors of an evaluation without functions of a user's."""
    return [*given.tensors, *given.masks, given.scales]


def kind_of(given: Inputs) -> Hashable:
    """What a graph depends on; None where that cannot be told."""
    keys = getattr(torch._C, "_dispatch_keys", None)  # noqa: SLF001  # whatever wraps a tensor
    if given.traced or keys is None:
        return None
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        *[(type(x), x.shape, x.stride(), keys(x).raw_repr()) for x in tensors_of(given)],
    )
