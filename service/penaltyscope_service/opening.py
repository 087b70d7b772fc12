"""Opens the history whatever state its file is in, and says what was found."""

import logging
import struct
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from penaltyscope_service.history import (
    DamagedError,
    History,
    Synchronous,
    is_damage,
    put_aside,
    replace,
    salvage,
    take_lock,
)
from penaltyscope_service.registry import Registry
from penaltyscope_service.restoring import restore

_logger: Final = logging.getLogger(__name__)

_NONSENSE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
"""What reading rows raises that are not what was written."""


def open_history(
    path: Path, *, synchronous: Synchronous, window_seconds: float, now: float
) -> tuple[History, Registry]:
    """The history, and everything that was in memory.

    A damaged file is put aside, and all of it that can be trusted is taken over; if even that
    cannot be used, the history starts empty. No damage keeps a service from starting.

    Args:
        path: the file.
        synchronous: see ``History.open``.
        window_seconds: time that window maxima cover.
        now: Unix time in seconds, for the name of a file that is put aside.

    Raises:
        HistoryError: if the file is in use, no history, or one of a newer version.
    """
    stamp = _time(now).replace("-", "").replace(":", "")
    with ExitStack() as undo:
        lock = undo.enter_context(take_lock(path))
        log = Path(f"{path}-wal")
        left_bytes = log.stat().st_size if log.exists() else 0
        for remedy in (_save, _start_empty, None):
            try:
                opened = _open(path, synchronous, window_seconds, lock)
                break
            except DamagedError as error:
                if remedy is None:
                    raise
                aside = put_aside(path, stamp)
                _logger.error("%s is damaged (%s) and was moved to %s", path, error, aside)
                remedy(aside, path)
        undo.pop_all()
    _report(path, *opened, left_bytes)
    return opened


def _open(
    path: Path, synchronous: Synchronous, window_seconds: float, lock: IO[str]
) -> tuple[History, Registry]:
    history = History.open(path, synchronous=synchronous, lock=lock)
    try:
        return history, restore(history, window_seconds)
    except BaseException as error:
        history.disconnect()
        if is_damage(error) or isinstance(error, _NONSENSE):
            raise DamagedError(str(error)) from error
        raise


def _save(aside: Path, path: Path) -> None:
    salvage(aside, path)
    _logger.error("what could be read of %s was taken over; the rest is lost", aside)


def _start_empty(aside: Path, path: Path) -> None:
    replace(path, None)
    _logger.error("nothing of %s can be used: the history starts empty", aside)


def _report(path: Path, history: History, registry: Registry, left_bytes: int) -> None:
    aggregates = [stream.aggregate for stream in registry.streams.values()]
    last = max((a.progress_at for a in aggregates), default=0.0)
    _logger.info(
        "%s: %d runs, %d steps%s, %d bytes; %s",
        path,
        len(registry.runs),
        sum(aggregate.steps for aggregate in aggregates),
        f", the last one at {_time(last)}" if last else "",
        history.size_bytes(),
        f"{left_bytes} bytes were recovered from the log of a process that was killed"
        if left_bytes
        else "it was closed well, or is new",
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
