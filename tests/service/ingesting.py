"""A process that keeps steps until it is killed, and says what was acknowledged.

Run as ``python -m tests.service.ingesting FILE``; every line on its standard output is the number
of evaluations that each of its runs had got acknowledged by then.
"""

import sys
from pathlib import Path

from penaltyscope_service.observatory import Limits, Observatory
from tests.service.observed import batch
from tests.service.steps import make_steps

RUNS = ("one", "two")
ROWS = 70  # so that blocks are packed at a different place each time


def main() -> None:
    """Never returns."""
    observatory = Observatory.open(Path(sys.argv[1]), limits=Limits())
    before = observatory.run(RUNS[0])
    first = before.steps if before else 0
    while True:
        steps = make_steps(range(first, first + ROWS), value=float("nan"))
        again = make_steps(range(first, first + 5))
        observatory.ingest([batch(steps, again, run=run) for run in RUNS])
        first += ROWS
        sys.stdout.write(f"{first}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
