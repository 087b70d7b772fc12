"""One service per folder: a lock that ends with its process, in whatever way that ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from penaltyscope_service.history._schema import HistoryError


def take_lock(path: Path) -> IO[str]:
    """The lock of the history in ``path``; closing it, or the end of the process, gives it up.

    Raises:
        HistoryError: if another process has it.
        OSError: if nothing can be written beside the history.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HistoryError(_held(path, file)) from None
    with suppress(OSError):  # who has it is good to know, but a full disk must not stop a start
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def _held(path: Path, file: IO[str]) -> str:
    with file:
        file.seek(0)
        holder = file.read().strip()
    by = f"process {holder}" if holder.isdigit() else "another process"
    return f"{path.parent} is in use by {by}; every service needs a folder of its own."
