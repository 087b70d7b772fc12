"""Those who hear of evaluations."""

import logging
from collections.abc import Callable
from typing import Any

_logger = logging.getLogger("penaltyscope")

_FAILED = "observer %r failed and is removed"

_Hearing = tuple[tuple[object, Callable[..., None]], ...]


class Audience:
    """Observers of one pipeline. One that raises is logged and removed.

    Right after a training step nothing of this is in the processor's caches. So what each observer
    listens to is looked up beforehand, and an evaluation asks its module, where looking up takes
    long, for nothing but its audience.
    """

    __slots__ = ("_deaf", "_exceptions", "_observers", "_stops", "starts")

    def __init__(self, deaf: type) -> None:
        self._deaf = deaf
        """Methods inherited from this class do nothing, and are not called."""
        self._listen(())

    def add(self, observer: object) -> None:
        """Tells one more."""
        self._listen((*self._observers, observer))

    def remove(self, observer: object) -> None:
        """Tells it no more."""
        self._listen(tuple(one for one in self._observers if one is not observer))

    def start(self, pipeline: object, step: int) -> None:
        """Needs no call while there are no ``starts``."""
        for observer, hear in self.starts:
            try:
                hear(pipeline, step)
            except Exception:  # whatever an observer does, training goes on
                _logger.exception(_FAILED, observer)
                self.remove(observer)

    def stop(self, pipeline: object, result: object) -> None:
        """An evaluation ended."""
        for observer, hear in self._stops:
            try:
                hear(pipeline, result)
            except Exception:
                _logger.exception(_FAILED, observer)
                self.remove(observer)

    def exception(self, pipeline: object, step: int, error: BaseException) -> None:
        """An evaluation raised."""
        for observer, hear in self._exceptions:
            try:
                hear(pipeline, step, error)
            except Exception:
                _logger.exception(_FAILED, observer)
                self.remove(observer)

    def _listen(self, observers: tuple[Any, ...]) -> None:
        self._observers = observers
        self.starts = self._hearing("on_start")
        """Those who want to hear of the start."""
        self._stops = self._hearing("on_stop")
        self._exceptions = self._hearing("on_exception")

    def _hearing(self, event: str) -> _Hearing:
        return tuple(
            (observer, getattr(observer, event))
            for observer in self._observers
            if getattr(type(observer), event, None) is not getattr(self._deaf, event)
        )
