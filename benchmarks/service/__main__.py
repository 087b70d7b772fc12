"""What the service does for its CPU time, beside what people would pick instead.

Run it with ``make bench-service``. Servers are processes of their own on this machine, all of them
sent to by the same client; their own CPU time counts, the client's does not.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.service import alerting, growth, history, ingest, scrape
from benchmarks.service.row import Row, table

SUBJECTS: dict[str, Callable[[int], list[Row]]] = {
    "ingest": ingest.rows,
    "scrape": scrape.rows,
    "history": lambda _: history.rows(),
    "growth": growth.rows,
    "alerting": alerting.rows,
}


def main() -> None:
    """Measures, prints one table and writes the same rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for subject in arguments.subjects or SUBJECTS:
        if subject not in SUBJECTS:
            parser.error(f"subject must be one of {', '.join(SUBJECTS)}, got {subject}.")
        rows += SUBJECTS[subject](arguments.rounds)
    print(table(rows))
    if arguments.json:
        lines = [asdict(row) | {"met": row.met} for row in rows]
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
