"""A graph run once more, without the compiler's questions: its own are few and quick.

Before every run a compiler looks at all that a graph may depend on, which for small tensors takes
half as long as the run. What ours depend on, unless they have functions of a user's in them, is
known: constants, and of what is given its kinds, shapes and strides.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from penaltyscope._compiled._graph import Inputs, Outputs

_PLAIN = Tensor, nn.Parameter
"""Other tensors may do anything where they are used."""


class _Run(NamedTuple):
    """A run of what a backend has compiled."""

    compiled: Callable[..., Sequence[Any]]
    inputs: Sequence[object]
    outputs: Sequence[Any]


class _Places(NamedTuple):
    """Of what is wanted, among the outputs of a run."""

    numbers: int
    gram: int | None
    gradients: Sequence[int]


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

    def __init__(self, run: _Run, leaves: Mapping[int, int], places: _Places) -> None:
        """Takes down what goes where.

        Args:
            run: the first one.
            leaves: by place among its inputs, the number of a tensor among those that are given.
            places: of what is wanted, among its outputs.
        """
        self._compiled = run.compiled
        self._inputs = [None if i in leaves else x for i, x in enumerate(run.inputs)]
        self._leaves = tuple(leaves.items())
        self._places = places

    @classmethod
    def of(
        cls, run: _Run | None, given: Inputs, constants: Sequence[Tensor], outputs: Outputs
    ) -> "Direct | None":
        """One like a run; None if not all of its inputs are plain tensors, or sizes, of ours.

        Args:
            run: what the compiler did.
            given: what it was asked for.
            constants: tensors that are always the same.
            outputs: what came out.
        """
        if run is None or not all(type(x) in _PLAIN for x in tensors_of(given)):
            return None
        number = {id(x): i for i, x in enumerate(tensors_of(given))}
        fixed = {id(x) for x in constants}
        # A size is a number, and the same for the same shapes.
        known = number.keys() | fixed | {id(x) for x in run.inputs if type(x) is int}
        place = {id(x): i for i, x in enumerate(run.outputs)}
        gradients = [place.get(id(x), -1) for x in outputs.gradients]
        gram = None if outputs.gram is None else place.get(id(outputs.gram), -1)
        places = _Places(place.get(id(outputs.numbers), -1), gram, gradients)
        if -1 in (places.numbers, gram, *gradients) or not known.issuperset(map(id, run.inputs)):
            return None
        leaves = {i: number[id(x)] for i, x in enumerate(run.inputs) if id(x) in number}
        return cls(run, leaves, places)

    def __call__(self, given: Inputs) -> Outputs:
        """What the graph returns."""
        tensors, inputs = tensors_of(given), [*self._inputs]
        for place, number in self._leaves:
            inputs[place] = tensors[number]
        found, (numbers, gram, gradients) = self._compiled(*inputs), self._places
        return Outputs(
            found[numbers],
            None if gram is None else found[gram],
            [found[place] for place in gradients],
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
        *[
            (type(x), x.dtype, x.device, x.shape, x.stride(), keys(x).raw_repr())
            for x in tensors_of(given)
        ],
    )
