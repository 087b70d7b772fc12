"""Term-samples per second of the server's CPU time, ours and others', by the same client."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.service.bodies import ours
from benchmarks.service.load import send
from benchmarks.service.peers import push, remote_write, text_import
from benchmarks.service.processes import Server, peer, penaltyscope
from benchmarks.service.row import Row

_RUNS: Final = 64
_WARM: Final = 0.25
"""Of the requests are sent before the clock runs; the peers know all of their series then."""
_AGO_MS: Final = 3_000_000
"""How old the first sample is that peers get: none of theirs is in the future."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the requests of a measurement are like."""

    steps: int
    terms: int
    requests: int
    connections: int


# 44 requests of each run, 33 of them on the clock: two blocks of 1,024 steps are packed meanwhile.
LARGE: Final = Shape(steps=64, terms=8, requests=2816, connections=16)
WIDE: Final = Shape(steps=64, terms=32, requests=2816, connections=16)
SMALL: Final = Shape(steps=1, terms=8, requests=6400, connections=32)


def rows(rounds: int) -> list[Row]:
    """All servers one after the other, several times over; medians."""
    return [*_large(rounds), *_wide(rounds), *_small(rounds)]


def _large(rounds: int) -> list[Row]:
    start = _start_ms()
    shape = (LARGE.requests, LARGE.steps, LARGE.terms, _RUNS)
    every = list(remote_write("/api/v1/write", *shape, start))
    values = list(remote_write("/api/v1/write", *shape, start, ("value",)))
    own, prometheus, victoria, prometheus_values, victoria_values = _medians(
        rounds,
        LARGE,
        (penaltyscope, list(ours(*shape))),
        (_peer("prometheus"), every),
        (_peer("victoria-metrics"), every),
        (_peer("prometheus"), values),
        (_peer("victoria-metrics"), values),
    )
    name = "ingest, 64 steps x 8 terms a request"
    return [
        Row(name, own or 0.0, "samples/CPU s", 1e6, "more"),
        *_times(f"{name} / Prometheus remote write", own, prometheus, 2),
        *_times(f"{name} / VictoriaMetrics remote write", own, victoria, 2),
        *_times(f"{name} / Prometheus, values alone", own, prometheus_values, None),
        *_times(f"{name} / VictoriaMetrics, values alone", own, victoria_values, None),
    ]


def _wide(rounds: int) -> list[Row]:
    bodies = list(ours(WIDE.requests, WIDE.steps, WIDE.terms, _RUNS))
    (own,) = _medians(rounds, WIDE, (penaltyscope, bodies))
    return [Row("ingest, 64 steps x 32 terms a request", own or 0.0, "samples/CPU s", 3e6, "more")]


def _small(rounds: int) -> list[Row]:
    start = _start_ms()
    shape = (SMALL.requests, SMALL.steps, SMALL.terms, _RUNS)
    own, text, written, one, many = _medians(
        rounds,
        SMALL,
        (penaltyscope, list(ours(*shape))),
        (_peer("victoria-metrics"), list(text_import(*shape, start))),
        (_peer("victoria-metrics"), list(remote_write("/api/v1/write", *shape, start))),
        (_peer("prometheus-pushgateway"), list(push(SMALL.requests // 2, SMALL.terms, 1))),
        (_peer("prometheus-pushgateway"), list(push(1200, SMALL.terms, 300))),
    )
    name = "ingest, 1 step x 8 terms a request"
    return [
        Row(name, own or 0.0, "samples/CPU s"),
        *_times(f"{name} / VictoriaMetrics text import", own, text, 1),
        *_times(f"{name} / VictoriaMetrics remote write", own, written, 1),
        *_times(f"{name} / Pushgateway, 1 group", own, one, 5),
        *_times(f"{name} / Pushgateway, 300 groups", own, many, 100),
    ]


_Start = Callable[[Path], AbstractContextManager[Server | None]]


def _medians(
    rounds: int, shape: Shape, *servers: tuple[_Start, Sequence[bytes]]
) -> list[float | None]:
    rates: list[list[float | None]] = [
        [_rate(start, requests, shape) for start, requests in servers] for _ in range(rounds)
    ]
    return [
        None if None in column else statistics.median(rate for rate in column if rate is not None)
        for column in zip(*rates, strict=True)
    ]


def _rate(start: _Start, requests: Sequence[bytes], shape: Shape) -> float | None:
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as server:
        if server is None:
            return None
        warm = int(len(requests) * _WARM) // _RUNS * _RUNS
        send(server.port, requests[:warm], connections=shape.connections)
        before = server.cpu_seconds()
        send(server.port, requests[warm:], connections=shape.connections)
        used = server.cpu_seconds() - before
    return (len(requests) - warm) * shape.steps * shape.terms / used


def _peer(name: str) -> _Start:
    return lambda folder: peer(name, folder)


def _times(name: str, own: float | None, other: float | None, bar: float | None) -> list[Row]:
    """The ratio, and what it is of; nothing where the other is not installed."""
    if own is None or other is None:
        return []
    return [Row(name, own / other, f"x of {other:,.0f}", bar, "more")]


def _start_ms() -> int:
    return int(time.time() * 1000) - _AGO_MS
