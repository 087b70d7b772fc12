"""A thread that does something again and again, beside the requests."""

import logging
import threading
from collections.abc import Callable
from typing import Final

_logger: Final = logging.getLogger(__name__)


class Upkeep:
    """Calls ``work`` at once and then after every pause; what it raises is logged."""

    def __init__(self, work: Callable[[], None], *, pause_seconds: float) -> None:
        self._work = work
        self._pause_seconds = pause_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread when it has done what it is at."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._work()
            except Exception:
                # A full disk, for one: the next time it may succeed.
                _logger.exception("the history could not be tidied")
            self._ending.wait(self._pause_seconds)
