"""A moment of the training that can be revisited: what a forward pass depends on or changes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from penaltyscope.attribution._random import RandomState

Buffers = list[tuple[nn.Module, str, Tensor]]
"""Modules, and the names and contents of their buffers."""


class Moment:
    """Random numbers, buffers and autocasting as they are now.

    Only PyTorch's generators of the CPU and of the devices in use are kept.
    """

    def __init__(self, model: nn.Module, devices: Sequence[torch.device]) -> None:
        self._model = model
        self._random = RandomState(devices)
        self._buffers = _copies(_buffers(model))
        self._autocast = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            for kind in {device.type for device in devices}
        ]

    @contextmanager
    def revisited(self) -> Iterator[None]:
        """Goes back there for a while, and leaves no trace."""
        own = _buffers(self._model)
        try:
            # Put in their place, not copied into them: a graph may hold them as they are.
            _install(_copies(self._buffers))
            with self._random.revisited(), ExitStack() as stack:
                for kind, dtype, enabled in self._autocast:
                    # A cache would hold parameters as they were cast before.
                    stack.enter_context(
                        torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
                    )
                yield
        finally:
            _install(own)


def _buffers(model: nn.Module) -> Buffers:
    # named_buffers() costs three times as much: it walks over modules even if told not to.
    return [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()  # noqa: SLF001
        if buffer is not None
    ]


def _copies(buffers: Buffers) -> Buffers:
    copies = {id(buffer): buffer.clone() for _, _, buffer in buffers}
    return [(module, name, copies[id(buffer)]) for module, name, buffer in buffers]


def _install(buffers: Buffers) -> None:
    for module, name, buffer in buffers:
        setattr(module, name, buffer)
