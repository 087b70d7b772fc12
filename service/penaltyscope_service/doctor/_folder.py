"""Checks of the folder of the history, and of what the machine lets a process have."""

import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from penaltyscope_service.doctor._finding import Finding

_LITTLE_BYTES: Final = 1024**3
_NOTHING_BYTES: Final = 64 * 1024**2


def examine_folder(folder: Path, *, history: str, connections: int) -> Iterator[Finding]:
    """What can be seen on the machine of the service, also while it runs.

    Args:
        folder: of the history.
        history: name of the file.
        connections: that the service means to take.
    """
    yield _files(connections)
    if not folder.is_dir():
        yield Finding(
            "fail", "folder", f"{folder} is not there", "check --data-dir; serve makes a new one"
        )
        return
    yield _writable(folder)
    yield _room(folder)
    if (folder / history).is_file():
        yield _whole(folder / history)
    else:
        yield Finding("warn", "history", f"{folder} has none", "start the service there once")


def _files(connections: int) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > connections:
        return Finding("ok", "open files", f"enough for {connections} connections, from here")
    return Finding(
        "warn",
        "open files",
        f"at most {hard} from here, which is less than --max-connections {connections}",
        "raise the hard limit (ulimit -Hn, LimitNOFILE=, --ulimit nofile=)",
    )


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("ok", "folder", f"{folder} can be written")
    except OSError as error:
        return Finding(
            "fail",
            "folder",
            f"{folder} cannot be written: {error}",
            "check owner, mode and mount, and run this as the service's user",
        )


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB are free"
    if free >= _LITTLE_BYTES:
        return Finding("ok", "disk", text)
    return Finding(
        "fail" if free < _NOTHING_BYTES else "warn", "disk", text, "make room or add a disk"
    )


def _whole(path: Path) -> Finding:
    """Reads the whole file, which takes seconds for each gigabyte."""
    size = f"{path.stat().st_size / 1024**2:.1f} MiB"
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as history:
            found = [str(row[0]) for row in history.execute("PRAGMA quick_check(1)")]
    except sqlite3.Error as error:
        found = [str(error)]
    if found == ["ok"]:
        return Finding("ok", "history", f"{path} is whole, {size}")
    return Finding(
        "fail",
        "history",
        f"{path} is damaged: {found[0]}",
        "stop the service, keep a copy, and use a backup or `sqlite3 .recover`",
    )
