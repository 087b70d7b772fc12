"""Files that are read again when they are new; what cannot be read changes nothing."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_logger: Final = logging.getLogger(__name__)

_State = tuple[tuple[int, ...] | None, ...]


class Renewal:
    """Calls ``load`` when one of the files is another than it was."""

    def __init__(self, what: str, files: Sequence[Path], load: Callable[[], object]) -> None:
        """Takes the files as they are for known.

        Args:
            what: is in them, for the log.
            files: that are looked at; links are followed, as in a mounted secret.
            load: reads them; may raise, and has then changed nothing.
        """
        self._what = what
        self._files = tuple(files)
        self._load = load
        self._known = self._look()

    def look(self) -> None:
        """Reads the files if one of them is new."""
        if self._look() != self._known:
            self.now()

    def now(self) -> None:
        """Reads the files, new or not."""
        self._known = self._look()
        try:
            self._load()
        except Exception as error:  # noqa: BLE001  # whatever it is, what was known still serves
            _logger.error(  # the reason is what an operator needs
                "%s cannot be used, those from before stay: %s", self._what, error
            )
        else:
            _logger.info("%s: read again", self._what)

    def _look(self) -> _State:
        return tuple(map(_state, self._files))


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
