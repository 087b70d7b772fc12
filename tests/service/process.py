"""The service as its users run it: a process, a socket, a folder."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = "from penaltyscope_service.cli import main; main()"
"""The command line, without asking where it was installed."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    command: list[str]
    url: str
    grpc: str = ""
    """Host and port of OTLP/gRPC, where it is served."""


@contextmanager
def serve(
    data_dir: Path, *flags: str, max_file_bytes: int | None = None, stderr: int | None = None
) -> Iterator[Service]:
    """Starts ``penaltyscope serve`` on a free port, and ends it if that did not happen yet.

    Args:
        data_dir: the folder of the history.
        flags: further flags.
        max_file_bytes: no file of the process may grow larger, as on a disk that is full.
        stderr: as for ``Popen``.
    """
    arguments = ["serve", "--data-dir", str(data_dir), *flags]
    # Not by a function in the fork: there, the threads of a gRPC client in this process are gone.
    limit = (
        "import resource; kind = resource.RLIMIT_FSIZE; "
        f"resource.setrlimit(kind, ({max_file_bytes}, resource.getrlimit(kind)[1])); "
    )
    limited = SCRIPT if max_file_bytes is None else limit + SCRIPT
    process = subprocess.Popen(
        [sys.executable, "-c", limited, *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=stderr if max_file_bytes is None else subprocess.DEVNULL,
        text=True,
    )
    command = [sys.executable, "-c", SCRIPT, *arguments]
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http"), line
        url = line.removeprefix("listening on ").strip()
        grpc = process.stdout.readline() if "--grpc" in flags else ""
        yield Service(process, command, url, grpc.rpartition("//")[2].strip())
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
