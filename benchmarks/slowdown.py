"""Whether a training step that is mostly Python feels the threads beside it.

The 99th percentile meets each drain: steps with and without telemetry run in blocks that hold
several, and none of the other's. The median step meets none, and is compared to one a few
milliseconds away, since a machine wanders further within seconds than telemetry costs.
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
_FEW = 5
"""Steps that are compared to as many right beside them."""


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

    modes, length = {"off": timed(off), "on": timed(on)}, LONGER * effort.block_steps
    with service() as endpoint, ps.watch(on, run="benchmark", endpoint=endpoint) as run:
        apart = in_blocks(
            modes,
            blocks=effort.blocks,
            length=length,
            between=run.flush,  # so that no block pays for the one before
        )
        beside = in_blocks(modes, blocks=effort.blocks * length // _FEW, length=_FEW)
    median = ratio_by_block(beside, "on", "off", _FEW, statistics.median)
    p99 = ratio_by_block(apart, "on", "off", length, _p99)
    name = "Python-heavy step, telemetry on / off"
    return [
        Row(f"{name}, median", median, bar=1.01),
        Row(f"{name}, p99", p99, bar=1.05),
        Row("Python-heavy step without telemetry", statistics.median(beside["off"]) * 1e3, "ms"),
    ]


def _p99(values: Sequence[float]) -> float:
    return quantile(values, 0.99)
