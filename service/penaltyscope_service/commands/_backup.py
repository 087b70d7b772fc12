"""``penaltyscope backup``."""

from pathlib import Path
from typing import Annotated

import typer

from penaltyscope_service.commands._folder import DEFAULT, DataDir, history_in, told
from penaltyscope_service.history import back_up


def back_up_history(
    destination: Annotated[Path, typer.Argument(help="The file to make; must not exist yet.")],
    *,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Copies the history as it is now, also beside a running service.

    To restore, stop the service and put the copy in the place of history.sqlite, without the files
    beside it whose names begin with history.sqlite-.
    """
    with told():
        size = back_up(history_in(data_dir), destination)
    typer.echo(f"{destination}: {size} bytes")
