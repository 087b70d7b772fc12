"""Compilation of one function for several purposes that know nothing of each other."""

from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Final, TypeAlias

import torch

Backend: TypeAlias = str | Callable[..., Any]
"""What ``torch.compile`` takes for one."""

_SETTINGS: Final = {
    # Without it, allocating the many small buffers by Python takes longer than filling them.
    "cpp_wrapper": True,
    # By default no loop has more than 16 sums; the next one reads everything again.
    "cpp.max_horizontal_fusion_size": 1024,
    # Only what is near in order shares a loop, and our order is the one that does.
    "reorder_for_locality": False,
    # A sum takes a product in with the same instruction, and rounds once.
    "cpp.enable_floating_point_contract_flag": "fast",
}
"""Of the compiler behind ``torch.compile``, for these graphs alone."""


def compiled_apart(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """The function, compiled as a whole, with graphs that count for this purpose alone."""
    # The compiler keeps graphs, and a limit to their number, by code object.
    own = FunctionType(function.__code__.replace(), function.__globals__)
    options: dict[str, Any] = {}
    if hasattr(torch.compiler, "skip_guard_on_globals_unsafe"):  # the option is as old as this
        options["guard_filter_fn"] = _may_change
    compiled: Callable[..., Any] = torch.compile(
        own, fullgraph=True, backend=backend, options=options
    )
    return compiled


def resolved(backend: Backend) -> Callable[..., Any]:
    """A backend as what it is, a function of a module, with the settings that graphs are for."""
    if callable(backend):
        return backend
    # Not at the top: the compiler takes seconds to import, and few need it.
    from torch._dynamo import lookup_backend

    found: Callable[..., Any] = lookup_backend(backend)
    if backend != "inductor":
        return found
    from torch._inductor import config

    settings = {name: value for name, value in _SETTINGS.items() if _has(config, name)}
    return partial(found, config_patches=settings)


def _has(config: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(config, part):
            return False
        config = getattr(config, part)
    return True


def _may_change(entries: Sequence[Any]) -> list[bool]:
    # Of the 600 things that a compiler looks at before every run, few are not constant.
    return [_of_a_user(entry.name) if entry.is_global else _given(entry.name) for entry in entries]


def _given(name: str) -> bool:
    return not name.startswith(("blueprint", "tables")) and "L['blueprint']" not in name


def _of_a_user(name: str) -> bool:
    # In a module of another package, or in none at all.
    ours = "G['__import_penaltyscope_dot_" in name
    return "___unnamed_scope" in name or ("G['__import_" in name and not ours)
