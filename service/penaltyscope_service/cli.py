"""The command line: ``penaltyscope serve``, and the commands beside it."""

import logging
import sqlite3
import sys
from importlib.metadata import version
from typing import Annotated, Any, Never

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from penaltyscope_service import server
from penaltyscope_service.app import create_app
from penaltyscope_service.commands import back_up_history, export_run, import_files
from penaltyscope_service.history import HistoryError
from penaltyscope_service.settings import Settings, flag, variable

cli = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


cli.command("export")(export_run)
cli.command("import")(import_files)
cli.command("backup")(back_up_history)


def main() -> None:
    """The entry point of the ``penaltyscope`` command."""
    cli()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penaltyscope {version('penaltyscope')}")
        raise typer.Exit


@cli.callback()
def root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Watches the penalty terms of training runs."""


def _flag(name: str) -> Any:  # noqa: ANN401  # so does typer
    """The flag of a setting: text and default come from there, and so does the type."""
    field = Settings.model_fields[name]
    return typer.Option(
        flag(name),
        help=f"{field.description} [env: {variable(name)}] [default: {field.default}]",
        show_default=False,
    )


@cli.command()
def serve(
    *,
    host: Annotated[str | None, _flag("host")] = None,
    port: Annotated[str | None, _flag("port")] = None,
    data_dir: Annotated[str | None, _flag("data_dir")] = None,
    allow_remote: Annotated[bool | None, _flag("allow_remote")] = None,
    max_body_bytes: Annotated[str | None, _flag("max_body_bytes")] = None,
    queue_requests: Annotated[str | None, _flag("queue_requests")] = None,
    queue_bytes: Annotated[str | None, _flag("queue_bytes")] = None,
    series_limit: Annotated[str | None, _flag("series_limit")] = None,
    terminal_grace_seconds: Annotated[str | None, _flag("terminal_grace_seconds")] = None,
    stall_floor_seconds: Annotated[str | None, _flag("stall_floor_seconds")] = None,
    lost_after_seconds: Annotated[str | None, _flag("lost_after_seconds")] = None,
    window_seconds: Annotated[str | None, _flag("window_seconds")] = None,
    gap_seconds: Annotated[str | None, _flag("gap_seconds")] = None,
    retention_days: Annotated[str | None, _flag("retention_days")] = None,
    retention_runs: Annotated[str | None, _flag("retention_runs")] = None,
    retention_bytes: Annotated[str | None, _flag("retention_bytes")] = None,
    synchronous: Annotated[str | None, _flag("synchronous")] = None,
) -> None:
    """Takes events over OTLP, keeps every step, serves metrics, an API and a live page.

    A flag wins over its environment variable. Prints one line once requests are answered.
    """
    settings = _settings({name: value for name, value in locals().items() if value is not None})
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("penaltyscope_service").setLevel(logging.INFO)
    try:
        listening = server.bind(settings.host, settings.port)
    except OSError as error:
        _fail(f"cannot listen on {settings.host} port {settings.port} (--host, --port): {error}")
    with listening:
        try:
            app = create_app(settings)
        except (OSError, sqlite3.Error, HistoryError) as error:
            _fail(f"cannot open the history in {settings.data_dir} (--data-dir): {error}")
        url = server.address(listening)
        server.run(app, listening, on_ready=lambda: typer.echo(f"listening on {url}"))


def _settings(flags: dict[str, Any]) -> Settings:
    try:
        return Settings(**flags)
    except ValidationError as error:
        return _fail("\n".join(_problem(detail, flags) for detail in error.errors()))


def _problem(detail: ErrorDetails, flags: dict[str, Any]) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    name = str(detail["loc"][0])
    source = flag(name) if name in flags else variable(name)
    return f"{source}: {message[:1].lower()}{message[1:]}, got {detail['input']!r}."


def _fail(message: str) -> Never:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
