"""What a callable can reach: the tensors in its closure, its modules, its options."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from torch import Tensor, nn

_FOREIGN = ("torch", "penaltyscope.", "math", "functools", "numpy")
"""Modules whose functions hold no tensors of the user's."""
_HOLDING_NOTHING = (ModuleType, BuiltinFunctionType, type, str, bytes, int, float)
_MOST_OBJECTS = 10_000


def reachable(thing: object) -> Iterator[Tensor]:
    """Tensors that an object holds: by closures, defaults, globals, attributes, items.

    All of them, unless it holds so much that a search is not worth its time.
    """
    seen: set[int] = set()
    waiting = [thing]
    while waiting and len(seen) < _MOST_OBJECTS:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, _HOLDING_NOTHING):
            continue
        seen.add(id(current))
        if isinstance(current, Tensor):
            yield current
        else:
            waiting.extend(_held(current))


def _held(thing: object) -> Iterator[object]:
    if isinstance(thing, nn.Module):
        yield from thing.parameters()
        yield from thing.buffers()
    elif isinstance(thing, FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    else:
        yield from _of_object(thing)


def _of_object(thing: object) -> Iterator[object]:
    yield from getattr(thing, "__dict__", {}).values()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(thing, name, None)
    yield type(thing).__dict__.get("__call__")


def _of_function(function: FunctionType) -> Iterator[object]:
    if _is_foreign(function.__module__ or ""):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from (function.__defaults__, function.__kwdefaults__)
    for name in _names(function.__code__):
        yield function.__globals__.get(name)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_foreign(module: str) -> bool:
    return module.startswith(_FOREIGN)
