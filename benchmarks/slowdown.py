"""Whether a training step that is mostly Python feels the threads beside it.

The median step meets no drain; the 99th percentile meets each.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import in_blocks, quantile, ratio_by_block
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

    length = LONGER * effort.block_steps
    with service() as endpoint, ps.watch(on, run="benchmark", endpoint=endpoint) as run:
        times = in_blocks(
            {"off": timed(off), "on": timed(on)},
            blocks=effort.blocks,
            length=length,
            between=run.flush,  # so that no block pays for the one before
        )

    def slower(of: Callable[[Sequence[float]], float]) -> float:
        return ratio_by_block(times, "on", "off", length, of)

    name = "Python-heavy step, telemetry on / off"
    return [
        Row(f"{name}, median", slower(statistics.median), bar=1.01),
        Row(f"{name}, p99", slower(_p99), bar=1.05),
        Row("Python-heavy step without telemetry", statistics.median(times["off"]) * 1e3, "ms"),
    ]


def _p99(values: Sequence[float]) -> float:
    return quantile(values, 0.99)
