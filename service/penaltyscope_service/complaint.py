"""How a command ends that cannot go on."""

from typing import Never

import typer


def fail(message: object) -> Never:
    """Says why on standard error, and ends with 2."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
