"""A service in a process of its own that is there at once: its modules are imported already."""

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from penaltyscope_service.cli import cli

_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["httpx", "tests.end_to_end.forked"])


def start(flags: Sequence[str], log: Path) -> BaseProcess:
    """``penaltyscope serve`` with flags; its output is added to a file."""
    service = _PROCESSES.Process(target=_serve, args=(flags, log))
    service.start()
    return service


def kill(service: BaseProcess) -> None:
    """``kill -9``."""
    service.kill()
    service.join()


def _serve(flags: Sequence[str], log: Path) -> None:
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    cli(["serve", *flags])
