"""The command line: ``penaltyscope doctor``."""

import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from penaltyscope_service.complaint import fail
from penaltyscope_service.doctor import (
    Finding,
    Visit,
    examine_folder,
    examine_prometheus,
    examine_service,
)
from penaltyscope_service.settings import HISTORY_FILE, Settings

_CONNECTIONS: int = Settings.model_fields["max_connections"].default


def doctor(
    *,
    endpoint: Annotated[
        str, typer.Option(envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="Address of the service.")
    ] = "http://127.0.0.1:4318",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of its history, on this machine.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="PENALTYSCOPE_TOKEN", help="A token; others see arguments, but no environment."
        ),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="Address of the Prometheus that scrapes it.")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(envvar="OTEL_EXPORTER_OTLP_CERTIFICATE", help="Authorities (PEM) to believe."),
    ] = None,
    client_certificate: Annotated[
        str | None,
        typer.Option(
            envvar="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", help="Certificate (PEM) to show."
        ),
    ] = None,
    client_key: Annotated[
        str | None,
        typer.Option(envvar="OTEL_EXPORTER_OTLP_CLIENT_KEY", help="Key (PEM) of that."),
    ] = None,
) -> None:
    """Checks a deployment, and says what is wrong and what to do.

    Every line says ok, warn or fail. Nothing is changed. Ends with 1 if anything failed.
    """
    service = Visit(
        _url("--endpoint", endpoint),
        token=token,
        certificate=certificate,
        client_certificate=client_certificate,
        client_key=client_key,
    )
    scraper = Visit(_url("--prometheus", prometheus)) if prometheus else None
    failed = False
    for finding in _examine(service, data_dir, scraper):
        typer.echo(str(finding))
        failed |= finding.level == "fail"
    raise typer.Exit(int(failed))


def _examine(service: Visit, data_dir: Path | None, scraper: Visit | None) -> Iterator[Finding]:
    yield from examine_service(service, version=version("penaltyscope"), clock=time.time)
    if data_dir is not None:
        yield from examine_folder(data_dir, history=HISTORY_FILE, connections=_CONNECTIONS)
    if scraper is not None:
        yield from examine_prometheus(scraper, service)


def _url(name: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"{name}: must be an http:// or https:// URL, got {url!r}.")
    return url
