"""``/metrics``: how long it takes to write, and what it does to those who send meanwhile."""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from benchmarks.service.bodies import block, ours
from benchmarks.service.load import send
from benchmarks.service.processes import Server, penaltyscope
from benchmarks.service.row import Row
from penaltyscope_events import RunIdentity
from penaltyscope_service.decode import Batch
from penaltyscope_service.observatory import Limits, Observatory

_SERIES: Final = 100_000
_TERMS: Final = 8
_RUNS: Final = 340
_PER_SECOND: Final = 50
_SECONDS: Final = 10


def rows(rounds: int) -> list[Row]:
    """All of it."""
    return [*_render(rounds), _disturbance(rounds)]


def _render(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        observatory = Observatory.open(Path(folder) / "history.sqlite", limits=Limits())
        runs = 0
        while observatory.render().count(b"\n") < _SERIES:
            observatory.ingest([_batch(run) for run in range(runs, runs + 20)])
            runs += 20
        series = sum(not line.startswith(b"#") for line in observatory.render().splitlines())
        theirs = _client_registry(series)
        own_seconds, their_seconds = [], []
        for _ in range(max(rounds, 5)):
            own_seconds.append(_cpu_seconds(observatory.render))
            their_seconds.append(_cpu_seconds(lambda: generate_latest(theirs)))
        observatory.close()
    own, other = statistics.median(own_seconds), statistics.median(their_seconds)
    return [
        Row(f"/metrics, {series:,} series", own * 1e3, "CPU ms"),
        Row("/metrics, times as fast as prometheus_client", other / own, "x", 40, "more"),
    ]


def _batch(run: int) -> Batch:
    return Batch(identity=RunIdentity(run_id=f"run-{run}"), steps=(block(0, 4, _TERMS),))


def _client_registry(series: int) -> CollectorRegistry:
    """As many gauges with the same labels as a term's."""
    registry = CollectorRegistry()
    gauge = Gauge("term_value", "Value.", ["run", "pipeline", "term"], registry=registry)
    for i in range(series):
        gauge.labels(f"run-{i // 300}", "distillation", f"term_{i % 300}").set(i / 7)
    return registry


def _cpu_seconds(work: object) -> float:
    began = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - began


def _disturbance(rounds: int) -> Row:
    """The slowest hundredth of requests with a scrape every second, over the same without."""
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, penaltyscope(Path(folder)) as server:
            count = _PER_SECOND * _SECONDS
            requests = list(ours(_RUNS + 2 * count, 16, _TERMS, _RUNS))
            send(server.port, requests[:_RUNS], connections=16)
            quiet = _p99(server, requests[_RUNS : _RUNS + count])
            with _scraped(server):
                ratios.append(_p99(server, requests[_RUNS + count :]) / quiet)
    name = f"ingest p99 with a scrape of {_RUNS * 290 // 1000}k series every second / without"
    return Row(name, statistics.median(ratios), "x", 2)


def _p99(server: Server, requests: list[bytes]) -> float:
    sent = send(server.port, requests, connections=20, per_second=_PER_SECOND)
    return statistics.quantiles(sent.latencies, n=100)[98]


@contextmanager
def _scraped(server: Server) -> Iterator[None]:
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(1.0):
            with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
