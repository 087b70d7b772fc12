"""``penaltyscope export``."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from penaltyscope_service.commands._folder import DEFAULT, DataDir, history_in, told
from penaltyscope_service.complaint import fail
from penaltyscope_service.export import Format, MissingPyarrowError, export
from penaltyscope_service.history import Archive


def export_run(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    kind: Annotated[Format, typer.Option("--format", help="Of the file.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; the standard output by default.")
    ] = None,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Writes every step of a run, also beside a running service.

    CSV and Parquet have a row for each term of each evaluation; lines of JSON are the library's
    own and can be imported. Parquet needs pyarrow.
    """
    with told(), Archive.open(history_in(data_dir), run) as archive:
        if archive is None:
            fail(f"run must be one in {data_dir}, got {run!r}.")
        try:
            pieces = export(archive, kind)
        except MissingPyarrowError as error:
            fail(error)
        with nullcontext(sys.stdout.buffer) if output is None else output.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()  # here, and not when the interpreter ends, is told what goes wrong
