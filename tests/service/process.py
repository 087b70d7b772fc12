"""The service as its users run it: a process, a socket, a folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def serve(data_dir: Path, *flags: str) -> Iterator[Service]:
    """Starts ``penaltyscope serve`` on a free port, and ends it if that did not happen yet."""
    script = "from penaltyscope_service.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--data-dir", str(data_dir)]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://"), line
        yield Service(process, line.removeprefix("listening on ").strip())
    finally:
        process.terminate()
        process.communicate(timeout=10)
