"""Whether a training step that is mostly Python feels the threads beside it.

The median step meets no drain; the 99th percentile meets each.
"""

import statistics
import time
from collections.abc import Callable

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import in_blocks, quantile
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import PythonHeavyTraining, service

LONGER = 5
"""Blocks are so many times longer than elsewhere, so that each holds several drains."""


def rows(effort: Effort) -> list[Row]:
    """Steps with telemetry over steps without, the same pipeline in both."""
    training = PythonHeavyTraining()
    off, on = ps.Pipeline(TERMS, name="off"), ps.Pipeline(TERMS, name="on")

    def timed(pipeline: ps.Pipeline) -> Callable[[], float]:
        def step() -> float:
            started = time.perf_counter()
            training.step(pipeline)
            return time.perf_counter() - started

        return step

    with service() as endpoint, ps.watch(on, run="benchmark", endpoint=endpoint) as run:
        times = in_blocks(
            {"off": timed(off), "on": timed(on)},
            blocks=effort.blocks,
            length=LONGER * effort.block_steps,
            between=run.flush,  # so that no block pays for the one before
        )
    median = {name: statistics.median(times[name]) for name in times}
    tail = {name: quantile(times[name], 0.99) for name in times}
    name = "Python-heavy step, telemetry on / off"
    return [
        Row(f"{name}, median", median["on"] / median["off"], bar=1.01),
        Row(f"{name}, p99", tail["on"] / tail["off"], bar=1.05),
        Row("Python-heavy step without telemetry, median", median["off"] * 1e3, "ms"),
        Row("Python-heavy step without telemetry, p99", tail["off"] * 1e3, "ms"),
    ]
