"""Those who hear of evaluations."""

import logging
from collections.abc import Callable
from typing import Any

_logger = logging.getLogger("penaltyscope")

_Hearing = tuple[tuple[object, Callable[..., None]], ...]


class Audience:
    """Observers of one pipeline. One that raises is logged and removed.

    Right after a training step nothing of this is in the processor's caches. So what each observer
    listens to is looked up beforehand, an evaluation asks its module, where looking up takes long,
    for nothing but its audience, and an observer that is alone is called with nothing in between.
    """

    __slots__ = ("_deaf", "_exceptions", "_observers", "_stops", "starts", "stop")

    stop: Callable[[object, object], None]
    """Tells of an evaluation and its result; what it raises is for ``fail``.

    To be read before it is called: the interpreter would look for a method in the class.
    """
    starts: _Hearing
    """Those who want to hear of the start; without them ``start`` need not be called."""

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
        """An evaluation begins."""
        self._tell(self.starts, pipeline, step)

    def exception(self, pipeline: object, step: int, error: BaseException) -> None:
        """An evaluation raised."""
        self._tell(self._exceptions, pipeline, step, error)

    def fail(self) -> None:
        """The only one who hears of results has raised."""
        self._part_with(self._stops[0][0])

    def _tell(self, hearing: _Hearing, *arguments: object) -> None:
        for observer, hear in hearing:
            try:
                hear(*arguments)
            except Exception:  # noqa: BLE001  # whatever an observer does, training goes on
                self._part_with(observer)

    def _stop_all(self, pipeline: object, result: object) -> None:
        self._tell(self._stops, pipeline, result)

    def _part_with(self, observer: object) -> None:
        _logger.exception("observer %r failed and is removed", observer)
        self.remove(observer)

    def _listen(self, observers: tuple[Any, ...]) -> None:
        self._observers = observers
        self.starts = self._hearing("on_start")
        self._stops = self._hearing("on_stop")
        self._exceptions = self._hearing("on_exception")
        self.stop = self._stops[0][1] if len(self._stops) == 1 else self._stop_all

    def _hearing(self, event: str) -> _Hearing:
        return tuple(
            (observer, getattr(observer, event))
            for observer in self._observers
            if getattr(type(observer), event, None) is not getattr(self._deaf, event)
        )
