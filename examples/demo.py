"""The whole thing from one command: service, two training runs, what the service saw of them.

make demo                 stays up until Ctrl-C
make demo ARGS=--once     ends after the table
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from digits import Classifier, Digits, load, train_student, train_teacher
from penaltyscope.client import Client, FirstFinding

STEPS = 2500
DIVERGE_AFTER = 1500

console = Console()


@contextmanager
def service() -> Iterator[str]:
    """A service process on a free port of this machine; yields its address."""
    with tempfile.TemporaryDirectory(prefix="penaltyscope-demo-") as data:
        command = [str(Path(sys.executable).with_name("penaltyscope")), "serve"]
        log = Path(data) / "service.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*command, "--port", "0", "--data-dir", data],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: the service goes last
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                process.wait(10)
                raise SystemExit(f"the service did not start: {line}{log.read_text()}")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def train(digits: Digits, teacher: Classifier, address: str) -> list[str]:
    """Two students, one after the other; returns the ids of their runs."""
    runs: list[tuple[str, int | None]] = [("healthy", None), ("diverging", DIVERGE_AFTER)]
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for run, diverge_after in runs:
            train_student(
                digits,
                teacher,
                run=run,
                steps=STEPS,
                diverge_after=diverge_after,
                endpoint=address,
                on_step=partial(show, progress, progress.add_task(run, total=STEPS)),
            )
    return [run for run, _ in runs]


def show(progress: Progress, task: TaskID, step: int) -> None:
    """Moves a bar to ``step``."""
    progress.update(task, completed=step)


def report(address: str, runs: list[str]) -> None:
    """What the service knows of the runs."""
    table = Table(title="What the service saw", title_justify="left", show_lines=True)
    for column in ("run", "state", "steps", "last values", "first non-finite"):
        table.add_column(column, justify="right" if column == "steps" else "left", no_wrap=True)
    with Client(address) as client:
        for run in map(client.run, runs):
            terms = [term for pipeline in run.pipelines for term in pipeline.terms]
            table.add_row(
                run.run,
                run.state,
                f"{run.steps:,}",
                "\n".join(f"{term.term} = {_number(term.value)}" for term in terms),
                _finding(run.first_nonfinite),
            )
    console.print(table)


def _number(value: float | None) -> str:
    return f"[bold red]{value}[/]" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _finding(first: FirstFinding | None) -> str:
    if first is None:
        return "[green]none[/]"
    return "\n".join(
        f"{name}: [bold red]{getattr(first, name)}[/]"
        for name in ("step", "term", "stage", "kind", "rank")
    )


def main() -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="end after the table")
    once = parser.parse_args().once
    # Ended like by Ctrl-C, so that the service and its data do not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)
    # The demonstration's own service, whatever the environment says of others.
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    with service() as address:
        console.print(f"Service up at [bold]{address}[/]")
        with console.status("Training the teacher ..."):
            digits = load()
            teacher = train_teacher(digits)
        runs = train(digits, teacher, address)
        report(address, runs)
        console.print(f"Live page: [bold]{address}/#run={quote(runs[-1], safe='')}[/]")
        console.print(f"Metrics:   [bold]{address}/metrics[/]")
        if once:
            return
        console.print("Ctrl-C ends it.")
        signal.pause()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print()
