"""Runs every measurement and prints one table: ``python -m benchmarks [--only NAME] [--quick]``."""

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Protocol, cast

import torch

from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.row import Row, table, write

SUBJECTS = (
    "engines",
    "orthogonality",
    "parameters",
    "attribution",
    "recorder",
    "background",
    "slowdown",
    "wire",
    "peers",
    "growth",
)
"""Modules of this package, in the table's order; each has a function ``rows``."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Large tensors measure the kernel's page faults unless freed memory is kept.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


class Subject(Protocol):
    """What a module of measurements has."""

    def rows(self, effort: Effort) -> list[Row]:
        """Measures, and returns its lines of the table."""


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=SUBJECTS, help="may be given repeatedly")
    parser.add_argument("--quick", action="store_true", help="show that it runs; measures nothing")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # The allocator reads its settings when a program starts.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **ENVIRONMENT})
    torch.set_num_threads(1)
    found: list[Row] = []
    for name in arguments.only or SUBJECTS:
        print(f"measuring {name} ...", file=sys.stderr)
        subject = cast("Subject", importlib.import_module(f"benchmarks.{name}"))
        found += subject.rows(QUICK if arguments.quick else FULL)
    print(table(found))
    if arguments.json:
        write(arguments.json, found)


if __name__ == "__main__":
    main()
