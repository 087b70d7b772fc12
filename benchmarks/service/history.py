"""What is kept: bytes on disk, and the time until a chart of it is drawn."""

import sqlite3
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from benchmarks.service.bodies import block
from benchmarks.service.processes import penaltyscope
from benchmarks.service.row import Row
from penaltyscope_events import Event, RunIdentity, StepBlock, names
from penaltyscope_service.decode import Batch
from penaltyscope_service.observatory import Limits, Observatory
from penaltyscope_service.settings import HISTORY_FILE

_STEPS: Final = 1_000_000
_BATCH: Final = 1_000
_TERMS: Final = 8
_IDENTITY: Final = RunIdentity(run_id="long")


def rows() -> list[Row]:
    """A run of a million steps that has ended, so that all of it is packed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / HISTORY_FILE
        _fill(path)
        size = _used_bytes(path) / _STEPS
        with penaltyscope(Path(folder)) as server:
            terms = "&".join(f"term=term_{i}" for i in range(4))
            url = f"http://127.0.0.1:{server.port}/api/runs/long/series?points=2000&quantity=value&{terms}"
            first, *others = (_milliseconds(url) for _ in range(21))
    return [
        Row("history, 8 terms, noisy float32", size, "bytes/step", 60),
        Row("chart of 1,000,000 steps, 4 lines of 2,000 points, first", first, "ms", 60),
        Row("chart of the same, warm", statistics.median(others), "ms", 20),
    ]


def training(first: int, steps: int) -> StepBlock:
    """Numbers that decay slowly and scatter: by 5 % values, by 20 % norms."""
    random = np.random.default_rng(first)
    scale = np.exp(-np.arange(first, first + steps) / 3e5)[:, None]
    noise = random.standard_normal((2, steps, _TERMS))
    value = _single(0.5 * scale * (1 + 0.05 * noise[0]))
    norm = _single(0.1 * scale * np.abs(1 + 0.2 * noise[1]))
    plain = block(first, steps, _TERMS)
    contribution = _single(plain.weight * value)  # as the recorder sends it
    total = _single(contribution.sum(axis=1))
    total_norm = _single(np.sqrt((plain.weight * norm) ** 2 @ np.ones(_TERMS)))
    return replace(
        plain,
        value=value,
        contribution=contribution,
        gradient_norm=norm,
        total=total,
        base=_single(2 * scale[:, 0] * (1 + 0.05 * random.standard_normal(steps))),
        total_gradient_norm=total_norm,
    )


def _single(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return numbers.astype(np.float32).astype(np.float64)


def _fill(path: Path) -> None:
    observatory = Observatory.open(path, limits=Limits())
    for first in range(0, _STEPS, _BATCH):
        observatory.ingest([Batch(identity=_IDENTITY, steps=(training(first, _BATCH),))])
    end = Event(name=names.RUN_END, time_ns=time.time_ns(), attributes={names.STATUS: "finished"})
    observatory.ingest([Batch(identity=_IDENTITY, events=(end,))])
    observatory.close()


def _used_bytes(path: Path) -> int:
    """Without pages that are free, which the next run takes."""
    with sqlite3.connect(path) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    connection.close()
    return int((pages - free) * size)


def _milliseconds(url: str) -> float:
    began = time.perf_counter()
    with urlopen(url) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1e3
