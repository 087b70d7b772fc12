"""``penaltyscope import``."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
import urllib3

from penaltyscope_events import (
    Event,
    StepBlock,
    encode_events,
    encode_request,
    encode_steps,
)
from penaltyscope_events.jsonl_reader import read_lines
from penaltyscope_service.commands._folder import DEFAULT, DataDir, history_in, told
from penaltyscope_service.complaint import fail
from penaltyscope_service.decode import decode_logs
from penaltyscope_service.observatory import Observatory
from penaltyscope_service.settings import Settings, variable

_PROTOBUF: Final = "application/x-protobuf"
_AGAIN: Final = urllib3.Retry(
    10, status_forcelist=(429, 502, 503, 504), allowed_methods=None, backoff_factor=0.5
)
Send = Callable[[bytes], object]
"""Takes an OTLP request; durable when it returns."""


def import_files(
    files: Annotated[list[Path], typer.Argument(help="Lines of JSON, as the library writes them.")],
    *,
    data_dir: DataDir = DEFAULT,
    url: Annotated[
        str | None,
        typer.Option(help="Send to a service that is running, instead of writing to its folder."),
    ] = None,
) -> None:
    """Takes over lines of JSON, the library's or those of an export.

    Every evaluation counts once, however often it is imported and also if it was received before.
    A line that cannot be read is named and left out; then the exit status is 1. A service that
    wants a token gets the one in PENALTYSCOPE_TOKEN.
    """
    bad_lines = 0
    with told(), _posting(url) if url is not None else _keeping(data_dir) as send:
        for file in files:
            bad_lines += _import(file, send)
    if bad_lines:
        raise typer.Exit(1)


def _import(file: Path, send: Send) -> int:
    bad_lines = 0

    def tell(number: int, error: ValueError) -> None:
        nonlocal bad_lines
        bad_lines += 1
        typer.echo(f"{file}: line {number}: {error}", err=True)

    steps = 0
    with file.open("rb") as lines:
        for identity, item in read_lines(lines, on_invalid=tell):
            send(encode_request(identity, [_scope(item)]))
            steps += len(item) if isinstance(item, StepBlock) else 0
    typer.echo(f"{file}: {steps} evaluations, {bad_lines} lines that cannot be read")
    return bad_lines


def _scope(item: StepBlock | Event) -> bytes:
    return encode_steps(item) if isinstance(item, StepBlock) else encode_events([item])


@contextmanager
def _keeping(data_dir: Path) -> Iterator[Send]:
    """Writes to the folder, through the same checks as a request."""
    observatory = Observatory.open(history_in(data_dir), limits=Settings(data_dir=data_dir).limits)

    def send(body: bytes) -> None:
        decoded = decode_logs(body, _PROTOBUF)
        if decoded.message:
            typer.echo(decoded.message, err=True)
        observatory.ingest(decoded.batches)

    try:
        yield send
    finally:
        observatory.close()


@contextmanager
def _posting(url: str) -> Iterator[Send]:
    """Sends to a running service."""
    token = os.environ.get(variable("token"))
    headers = {"content-type": _PROTOBUF}
    if token:
        headers["authorization"] = f"Bearer {token}"
    with urllib3.PoolManager(retries=_AGAIN, headers=headers) as pool:

        def send(body: bytes) -> None:
            try:
                answer = pool.request("POST", f"{url.rstrip('/')}/v1/logs", body=body)
            except urllib3.exceptions.HTTPError as error:
                fail(f"{url} cannot be reached (--url): {error}")
            if answer.status != 200:
                fail(f"{url} answered {answer.status}: {answer.data[:200]!r}")

        yield send
