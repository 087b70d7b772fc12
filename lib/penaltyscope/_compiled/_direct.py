"""A graph run once more, without the compiler's questions: its own are few and quick.

Before every run a compiler looks at all that a graph may depend on, which for small tensors takes
half as long as the run. What ours depend on, unless they have functions of a user's in them, is
known: constants, and of what is given its kinds, shapes and strides.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from penaltyscope._compiled._graph import Inputs, Outputs

_PLAIN = Tensor, nn.Parameter
"""Other tensors may do anything where they are used."""

_KEYS: Final = getattr(torch._C, "_dispatch_keys", None)  # noqa: SLF001
"""Tells what wraps a tensor, or what it is a view of."""


class _Run(NamedTuple):
    """A run of what a backend has compiled."""

    compiled: Callable[..., Sequence[Any]]
    inputs: Sequence[object]
    outputs: Sequence[Any]


class _Places(NamedTuple):
    """Of what is wanted, among the outputs of a run."""

    total: int
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
        self._call = _innermost(run)
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
        total, numbers = place.get(id(outputs.total), -1), place.get(id(outputs.numbers), -1)
        places = _Places(total, numbers, gram, gradients)
        if -1 in (total, numbers, gram, *gradients) or not known.issuperset(map(id, run.inputs)):
            return None
        leaves = {i: number[id(x)] for i, x in enumerate(run.inputs) if id(x) in number}
        return cls(run, leaves, places)

    def __call__(self, given: Inputs) -> Outputs:
        """What the graph returns."""
        tensors, inputs = tensors_of(given), [*self._inputs]
        for place, number in self._leaves:
            inputs[place] = tensors[number]
        found, (total, numbers, gram, gradients) = self._call(inputs), self._places
        return Outputs(
            found[total],
            found[numbers],
            None if gram is None else found[gram],
            [found[place] for place in gradients],
        )


def tensors_of(given: Inputs) -> list[Tensor]:
    """The tensors of an evaluation without functions of a user's."""
    return [*given.tensors, *given.masks, given.scales]


def kind_of(tensors: Sequence[Tensor]) -> Hashable:
    """What a graph of ours depends on; None where that cannot be told."""
    if _KEYS is None:
        return None
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        *[(type(x), x.dtype, x.device, x.shape, x.stride(), _KEYS(x).raw_repr()) for x in tensors],
    )


def _innermost(run: _Run) -> Callable[[list[Any]], Sequence[Any]]:
    """What is left of a run without all that is around the code: it takes a list, and empties it.

    Around it are a dozen functions for gradients, tracing and caches, which take as long as a sixth
    of the evaluation of a small tensor.
    """
    compiled = run.compiled
    innermost: Callable[[list[Any]], Sequence[Any]] | None = getattr(
        compiled, "current_callable", None
    )
    if innermost is None or not _alike(innermost([*run.inputs]), run.outputs):
        return lambda inputs: compiled(*inputs)
    return innermost


def _alike(found: Sequence[Any], outputs: Sequence[Any]) -> bool:
    return len(found) == len(outputs) and all(
        isinstance(a, Tensor) and a.shape == b.shape and a.dtype == b.dtype and _equal(a, b)
        for a, b in zip(found, outputs, strict=True)
    )


def _equal(a: Tensor, b: Tensor) -> bool:
    # To compare on another device would be to wait for it.
    return not a.is_cpu or torch.equal(a.nan_to_num(), b.nan_to_num())
