"""Straight-line programs: what a block of rows goes through, with every field computed once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Leaf(NamedTuple):
    """The name of something that a program starts from: what it is, and which."""

    kind: str
    of: int = -1
    which: int = -1


class Program(NamedTuple):
    """A function of leaves, and their names in its order."""

    leaves: tuple[Leaf, ...]
    run: Callable[..., list[Any]]


class _Made(NamedTuple):
    """How a field is made: ``function(*fields, *constants)``."""

    function: Callable[..., object]
    fields: tuple[int, ...]
    constants: tuple[float, ...]


class Draft:
    """Fields, of which programs can be made; the same function of the same fields is one field."""

    def __init__(self) -> None:
        self._leaves: dict[Leaf, int] = {}
        self._made: dict[_Made, int] = {}

    def leaf(self, kind: str, of: int = -1, which: int = -1) -> int:
        """A field that is there before any program starts."""
        return self._leaves.setdefault(Leaf(kind, of, which), self._next())

    def __call__(
        self, function: Callable[..., object], *fields: int, constants: tuple[float, ...] = ()
    ) -> int:
        """A field that a function computes from others."""
        return self._made.setdefault(_Made(function, fields, constants), self._next())

    def find(self, function: Callable[..., object], *fields: int) -> int | None:
        """The field that a function computes from others, if there is one already."""
        return self._made.get(_Made(function, fields, ()))

    def program(self, outputs: Sequence[int]) -> Program:
        """What computes the outputs, and nothing else."""
        made = {field: how for how, field in self._made.items()}
        last = dict.fromkeys(outputs, -1)  # by field, the last that is made from it; -1: it stays
        for field in reversed(made):
            if field in last:
                for part in made[field].fields:
                    last.setdefault(part, field)
        leaves = {leaf: field for leaf, field in self._leaves.items() if field in last}
        steps = {field: how for field, how in made.items() if field in last}
        return Program(tuple(leaves), _function([*leaves.values()], steps, outputs, last))

    def _next(self) -> int:
        return len(self._leaves) + len(self._made)


def _function(
    leaves: Iterable[int], steps: dict[int, _Made], outputs: Iterable[int], last: dict[int, int]
) -> Callable[..., list[Any]]:
    # As Python source, because interpreting the steps costs as much as a small block.
    names = [f"f{field}" for field in steps]
    lines = [f"def make({', '.join(names)}):", f" def run({_listed(leaves)}):"]
    for field, (_, parts, constants) in steps.items():
        arguments = ", ".join([_listed(parts), *map(repr, constants)])
        lines.append(f"  x{field} = f{field}({arguments})")
        # What nothing needs any more: its memory is used again while it is still in the cache.
        lines += [f"  del x{part}" for part in dict.fromkeys(parts) if last[part] == field]
    lines += [f"  return [{_listed(outputs)}]", " return run"]
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    run: Callable[..., list[Any]] = scope["make"](*(how.function for how in steps.values()))
    return run


def _listed(fields: Iterable[int]) -> str:
    return ", ".join(f"x{field}" for field in fields)
