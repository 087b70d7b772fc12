"""The folder that a command works on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from penaltyscope_service.complaint import fail
from penaltyscope_service.history import HistoryError
from penaltyscope_service.settings import HISTORY_FILE, Settings, flag, variable

DataDir = Annotated[
    Path,
    typer.Option(
        flag("data_dir"),
        envvar=variable("data_dir"),
        help="Folder of the history.",
    ),
]
DEFAULT: Path = Settings.model_fields["data_dir"].default


def history_in(folder: Path) -> Path:
    """The file of the history."""
    return folder / HISTORY_FILE


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with files is told in one line."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has enough: a command ends without a word then
    except (HistoryError, OSError, sqlite3.Error) as error:
        fail(error)
