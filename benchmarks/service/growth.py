"""What many runs cost: memory while they are idle, time while they send."""

import statistics
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.service.bodies import ours
from benchmarks.service.load import send
from benchmarks.service.processes import penaltyscope
from benchmarks.service.row import Row

_FEW, _MANY = 10, 10_000
_STEPS: Final = 16
_TERMS: Final = 8
_REQUESTS: Final = 5_000
_CONNECTIONS: Final = 10


def rows(rounds: int) -> list[Row]:
    """The same requests from few runs and from many."""
    ratios, sizes = [], []
    for _ in range(rounds):
        few, _ = _measure(_FEW)
        many, size = _measure(_MANY)
        ratios.append(many / few)
        sizes.append(size)
    return [
        Row(
            "memory of an idle run with one pipeline of 8 terms", statistics.median(sizes), "kB", 50
        ),
        Row(
            "CPU time of a sample from one of 10,000 runs / of 10",
            statistics.median(ratios),
            "x",
            1.3,
        ),
    ]


def _measure(runs: int) -> tuple[float, float]:
    """CPU seconds for all requests, and kB of memory for each run."""
    with tempfile.TemporaryDirectory() as folder, penaltyscope(Path(folder)) as server:
        requests = list(ours(runs + _REQUESTS, _STEPS, _TERMS, runs))
        before = server.resident_bytes()
        send(server.port, requests[:runs], connections=_CONNECTIONS)
        size = server.resident_bytes() - before
        began = server.cpu_seconds()
        send(server.port, requests[runs:], connections=_CONNECTIONS)
        return server.cpu_seconds() - began, size / runs / 1e3
