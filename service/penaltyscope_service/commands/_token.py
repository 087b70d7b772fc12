"""The command line: ``penaltyscope token``."""

from pathlib import Path
from typing import Annotated

import typer

from penaltyscope_service.access import TokensError, add_token
from penaltyscope_service.complaint import fail
from penaltyscope_service.settings import flag, variable

token = typer.Typer(no_args_is_help=True, help="Tokens that let jobs send and people look.")


@token.callback()
def root() -> None:
    """Keeps ``create`` a command of its own, the only one though it is."""


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is; shown in messages.")],
    *,
    scope: Annotated[
        list[str],
        typer.Option(help="What it allows, ingest or read; once for each.", show_default=False),
    ],
    tokens_file: Annotated[
        Path,
        typer.Option(
            flag("tokens_file"), envvar=variable("tokens_file"), help="Where its hash is added."
        ),
    ],
    tenant: Annotated[
        str | None, typer.Option(help="Whose runs it sends, or alone may read.")
    ] = None,
    records_per_second: Annotated[
        float | None, typer.Option(help="Most records that it may send, on average.")
    ] = None,
) -> None:
    """Makes a token and prints it: this is the only time that it can be seen.

    A running service reads the file again by itself.
    """
    try:
        secret = add_token(
            tokens_file, name, scope, tenant=tenant, records_per_second=records_per_second
        )
    except TokensError as error:
        fail(str(error))
    typer.echo(secret)
