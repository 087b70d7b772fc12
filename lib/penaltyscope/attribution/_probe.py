"""What all probes share: when they measure, who hears of it, and what happens when they fail."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from penaltyscope.attribution._record import Attribution
from penaltyscope.pipeline import Pipeline

_logger = logging.getLogger("penaltyscope")

_Returned = TypeVar("_Returned")


class Probe:
    """Measures a pipeline every so often.

    One that raises while it measures is logged and closed: training goes on.

    Raises:
        TypeError: ``pipeline`` is not a pipeline.
        ValueError: ``every`` is not positive.
    """

    def __init__(self, pipeline: Pipeline, *, every: int) -> None:
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"pipeline must be a Pipeline, got {type(pipeline).__name__}.")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        self.pipeline = pipeline
        self.every = every
        """It measures the first of so many steps."""
        self.last: Attribution | None = None
        """The newest result."""
        self._count = 0
        self._listeners: list[Callable[[Attribution], None]] = []
        self._releases: list[Callable[[], None]] = []

    def register_listener(self, listener: Callable[[Attribution], None]) -> Callable[[], None]:
        """Tells ``listener`` of every result, on the training thread; returns what ends this."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def close(self) -> None:
        """Stops measuring; closing twice does nothing."""
        for release in self._releases:
            release()
        self._releases = []

    @property
    def closed(self) -> bool:
        """Whether it measures no more: it was closed, or has failed."""
        return not self._releases

    def _due(self) -> bool:
        return not self.closed and self._count % self.every == 0

    def _report(self, measure: Callable[[], Attribution]) -> None:
        attribution = self._attempted(measure)
        if attribution is None:
            return
        self.last = attribution
        for listener in tuple(self._listeners):
            self._attempted(partial(listener, attribution))

    def _attempted(self, act: Callable[[], _Returned]) -> _Returned | None:
        try:
            return act()
        except Exception:  # whatever a probe does, training goes on
            _logger.exception("%s failed and is closed", type(self).__name__)
            self.close()
            return None
