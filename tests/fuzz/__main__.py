"""A recorded campaign: ``python -m tests.fuzz --inputs 1000000 --record docs/fuzzing.md``."""

import argparse
import resource
import secrets
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from penaltyscope_service.observatory import Limits, Observatory
from tests.fuzz.campaign import Report, run

_PAGE_BYTES: Final = resource.getpagesize()
_HEAD: Final = """\
# Fuzzing

`make fuzz` changes valid OTLP requests (logs, traces and metrics; protobuf and JSON; plain, gzip
and zstd) at random and feeds them to decompression, decoding and the history. A request may be
refused; any other exception would be a 500 and is a finding. Requests that are "kept" had at least
one record of a run; the "slowest" input is the one that took most processor time to decode.
`make fuzz ARGS="--inputs N --seed S"` repeats a campaign; the command wrote the last one here:

| date | inputs | seed | seconds | kept | refused whole | slowest | memory grew | findings |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Ends with status 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--record", type=Path, default=None)
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        store = Observatory.open(Path(folder) / "history.sqlite", limits=Limits())
        run(store, count=options.inputs // 10, seed=seed + 1)  # caches fill up
        before = _resident_bytes()
        report = run(store, count=options.inputs, seed=seed)
        grown = _resident_bytes() - before
        store.close()
    row = _row(report, seed, time.monotonic() - started, grown)
    sys.stdout.write(row)
    for error, made in report.findings[:20]:
        sys.stdout.write(f"{error}: {made!r:.2000}\n")
    if options.record is not None:
        options.record.write_text(_HEAD + row, encoding="utf-8")
    sys.exit(bool(report.findings))


def _row(report: Report, seed: int, seconds: float, grown: int) -> str:
    refused = report.outcomes["InvalidRequestError"] + report.outcomes["RefusedError"]
    return (
        f"| {datetime.now(UTC):%Y-%m-%d} | {report.inputs:,} | {seed} | {seconds:,.0f} | "
        f"{report.kept:,} | {refused:,} | {report.slowest_seconds * 1e3:.1f} ms | "
        f"{grown / 2**20:.1f} MiB | {len(report.findings)} |\n"
    )


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm").read_text(encoding="utf-8")
    return int(statm.split()[1]) * _PAGE_BYTES


if __name__ == "__main__":
    main()
