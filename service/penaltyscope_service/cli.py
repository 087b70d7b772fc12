"""The command line: ``penaltyscope serve``, and the commands beside it."""

import logging
import sqlite3
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from penaltyscope_service import server
from penaltyscope_service.access import Gate, Token, TokensError, read_tokens
from penaltyscope_service.allocator import keep_freed_memory
from penaltyscope_service.app import create_service
from penaltyscope_service.commands import (
    back_up_history,
    doctor,
    export_run,
    import_files,
    token,
)
from penaltyscope_service.complaint import fail
from penaltyscope_service.connection import ConnectionLimits, ConnectionMetrics
from penaltyscope_service.history import HistoryError
from penaltyscope_service.ingest import overloaded
from penaltyscope_service.kernel import compile_kernels
from penaltyscope_service.renewal import Renewal
from penaltyscope_service.replay import Receiver, UnreachableError
from penaltyscope_service.replay import replay as replay_spool
from penaltyscope_service.settings import Settings, flag, variable

cli = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
cli.command("export")(export_run)
cli.command("import")(import_files)
cli.command("backup")(back_up_history)
cli.command("doctor")(doctor)
cli.add_typer(token, name="token")


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
    host_names: Annotated[str | None, _flag("host_names")] = None,
    grpc: Annotated[bool | None, _flag("grpc")] = None,
    grpc_port: Annotated[str | None, _flag("grpc_port")] = None,
    data_dir: Annotated[str | None, _flag("data_dir")] = None,
    tokens_file: Annotated[str | None, _flag("tokens_file")] = None,
    tls_certificate: Annotated[str | None, _flag("tls_certificate")] = None,
    tls_key: Annotated[str | None, _flag("tls_key")] = None,
    tls_client_ca: Annotated[str | None, _flag("tls_client_ca")] = None,
    allow_remote: Annotated[bool | None, _flag("allow_remote")] = None,
    max_body_bytes: Annotated[str | None, _flag("max_body_bytes")] = None,
    max_connections: Annotated[str | None, _flag("max_connections")] = None,
    head_seconds: Annotated[str | None, _flag("head_seconds")] = None,
    body_seconds: Annotated[str | None, _flag("body_seconds")] = None,
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
    """Runs the service: OTLP in; metrics, an API and a live page out.

    A flag wins over its environment variable. Prints a line for each address once requests are
    answered.
    """
    settings = _settings({name: value for name, value in locals().items() if value is not None})
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    gate = Gate(_tokens(settings), host_names=settings.own_names)
    _check_tls(settings)
    logging.getLogger("penaltyscope_service").setLevel(logging.INFO)
    try:
        listening = server.bind(settings.host, settings.port)
    except OSError as error:
        fail(f"cannot listen on {settings.host} port {settings.port} (--host, --port): {error}")
    keep_freed_memory()
    compile_kernels()  # not while the first request waits
    with listening:
        _check_grpc(settings)
        registry = CollectorRegistry()
        urls = [server.address(listening, tls=settings.tls)]
        try:
            service = create_service(settings, gate=gate, registry=registry, announce=urls.append)
        except (OSError, sqlite3.Error, HistoryError) as error:
            fail(f"cannot open the history in {settings.data_dir} (--data-dir): {error}")
        server.run(
            service.app,
            service.receiver,
            listening,
            limits=_limits(settings, registry),
            tls=settings.tls,
            renewals=_renewals(settings, gate),
            on_ready=lambda: _announce(urls),
        )


def _tokens(settings: Settings) -> tuple[Token, ...]:
    if settings.tokens_file is None:
        return ()
    try:
        return read_tokens(settings.tokens_file)
    except TokensError as error:
        fail(f"{flag('tokens_file')}: {error}")


def _renewals(settings: Settings, gate: Gate) -> tuple[Renewal, ...]:
    file = settings.tokens_file
    if file is None:
        return ()
    return (Renewal("tokens", [file], lambda: gate.know(read_tokens(file))),)


def _check_tls(settings: Settings) -> None:
    try:
        if settings.tls is not None:
            settings.tls.check()
    except OSError as error:
        flags = ", ".join(map(flag, ("tls_certificate", "tls_key", "tls_client_ca")))
        fail(f"cannot use the certificates ({flags}): {error}")


def _check_grpc(settings: Settings) -> None:
    """Its port is only taken once the event loop runs, where an error is a stack trace."""
    if not settings.grpc:
        return
    if find_spec("grpc") is None:
        fail("--grpc needs grpcio: pip install 'penaltyscope[grpc]'")
    try:
        server.bind(settings.host, settings.grpc_port).close()
    except OSError as error:
        fail(
            f"cannot listen on {settings.host} port {settings.grpc_port} (--host, --grpc-port): "
            f"{error}"
        )


def _limits(settings: Settings, registry: CollectorRegistry) -> ConnectionLimits:
    return ConnectionLimits(
        max_connections=server.allow_connections(settings.max_connections),
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        overloaded=overloaded,
        ended=ConnectionMetrics(registry).ended,
    )


def _announce(urls: list[str]) -> None:
    for url in urls:
        typer.echo(f"listening on {url}")


@cli.command()
def replay(
    directory: Annotated[
        Path, typer.Argument(help="What `spool` named.", exists=True, file_okay=False)
    ],
    *,
    endpoint: Annotated[str, typer.Option(help="Base URL of the receiver.")],
    header: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, sent along; may be repeated.")
    ] = None,
    timeout_seconds: Annotated[float, typer.Option(help="Of one request.", min=0.001)] = 10.0,
    give_up_seconds: Annotated[
        float, typer.Option(help="How long to try while the receiver is away.", min=0.0)
    ] = 60.0,
) -> None:
    """Sends what training processes have left in their spool.

    Removes what was taken. Directories of processes that are alive are left alone.
    """
    if not endpoint.startswith(("http://", "https://")):
        fail(f"--endpoint must be an http:// or https:// URL, got {endpoint!r}.")
    receiver = Receiver(
        url=f"{endpoint.rstrip('/')}/v1/logs",
        headers=dict(_header(text) for text in header or []),
        timeout_seconds=timeout_seconds,
        give_up_seconds=give_up_seconds,
    )
    try:
        outcome = replay_spool(directory, receiver, sleep=time.sleep)
    except UnreachableError as error:
        fail(f"{receiver.url} does not take requests, the rest stays in {directory}: {error}")
    except OSError as error:
        fail(f"cannot use {directory}: {error}")
    typer.echo(f"{outcome.sent} steps sent")
    if outcome.in_use:
        typer.echo(f"{outcome.in_use} processes are alive and send their own")
    if outcome.refused or outcome.unreadable:
        fail(f"{outcome.refused} steps were refused, {outcome.unreadable} could not be read")


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        fail(f"--header must be NAME=VALUE, got {text!r}.")
    return name.strip(), value.strip()


def _settings(flags: dict[str, Any]) -> Settings:
    try:
        return Settings(**flags)
    except ValidationError as error:
        return fail("\n".join(_problem(detail, flags) for detail in error.errors()))


def _problem(detail: ErrorDetails, flags: dict[str, Any]) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    name = str(detail["loc"][0])
    source = flag(name) if name in flags else variable(name)
    return f"{source}: {message[:1].lower()}{message[1:]}, got {detail['input']!r}."
