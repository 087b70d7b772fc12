"""A copy of the file as it was at one moment, made while a service writes to it."""

from contextlib import closing
from pathlib import Path

from penaltyscope_service.history._damage import look_for_damage
from penaltyscope_service.history._schema import connect, connect_to_read

_CHECK_SECONDS = 3600.0


def back_up(path: Path, destination: Path) -> int:
    """Copies the history in ``path``; the copy is whole, or there is none.

    Returns:
        The size of the copy in bytes.

    Raises:
        FileExistsError: if there is something in the destination already.
        HistoryError: if there is no history, or the copy is damaged as the history is.
    """
    if destination.exists():
        raise FileExistsError(f"{destination} must not exist yet.")
    unfinished = destination.with_name(f"{destination.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(connect_to_read(path)) as source, closing(connect(unfinished)) as copy:
            source.backup(copy)
            # One file that can be moved: without this mode there are three while it is open.
            copy.execute("PRAGMA journal_mode = DELETE")
            look_for_damage(copy, _CHECK_SECONDS)
        unfinished.rename(destination)
    finally:
        unfinished.unlink(missing_ok=True)
    return destination.stat().st_size
