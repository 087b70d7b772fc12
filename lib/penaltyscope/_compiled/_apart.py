"""Compilation of one function for several purposes that know nothing of each other."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias

import torch

Backend: TypeAlias = str | Callable[..., Any]
"""What ``torch.compile`` takes for one."""


def compiled_apart(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """The function, compiled as a whole, with graphs that count for this purpose alone."""
    # The compiler keeps graphs, and a limit to their number, by code object.
    own = FunctionType(function.__code__.replace(), function.__globals__)
    # Without it, allocating the many small buffers by Python takes longer than filling them.
    options: dict[str, Any] | None = {"cpp_wrapper": True} if backend == "inductor" else None
    compiled: Callable[..., Any] = torch.compile(
        own, fullgraph=True, backend=backend, options=options
    )
    return compiled
