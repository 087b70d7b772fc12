"""The state of PyTorch's random number generators."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The generators of the CPU and of some devices, as they are now."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._devices = tuple({d: None for d in devices if d.type != "cpu"})
        self._cpu = torch.get_rng_state()
        self._others = [torch.get_device_module(d).get_rng_state(d) for d in self._devices]

    @contextmanager
    def revisited(self) -> Iterator[None]:
        """Draws the same numbers again, and afterwards goes on as if nothing had been drawn."""
        now = RandomState(self._devices)
        self._restore()
        try:
            yield
        finally:
            now._restore()  # its own class

    def _restore(self) -> None:
        torch.set_rng_state(self._cpu)
        for device, state in zip(self._devices, self._others, strict=True):
            torch.get_device_module(device).set_rng_state(state, device)
