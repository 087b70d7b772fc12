"""What one recorded step costs the training thread, timed where it happens.

The same call costs several times more after a training step, with cold caches, than in a hot loop;
so it is timed right after the forward pass of a real step.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.measure import Times, in_blocks, quantile
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import Training, service, training_at_pace

OURS, CLOCK = "recorder call", "clock"


def rows(effort: Effort) -> list[Row]:
    """The call, less what reading the clock takes."""
    pipeline = ps.Pipeline(TERMS)
    training = training_at_pace(pipeline)
    with service() as endpoint:
        times = in_situ(training, TERMS, effort, endpoint)
    clock = statistics.median(times[CLOCK])
    ours = [t - clock for t in times[OURS]]
    whole = in_blocks(
        {"step": _whole_step(training, pipeline)}, blocks=1, length=effort.block_steps
    )
    return [
        Row("recorder call in situ, median", statistics.median(ours) * 1e6, "us", bar=8.0),
        Row("recorder call in situ, p99", quantile(ours, 0.99) * 1e6, "us"),
        Row("reading the clock, already taken off", clock * 1e6, "us"),
        Row("the training step around it", statistics.median(whole["step"]) * 1e3, "ms"),
    ]


def in_situ(training: Training, terms: Sequence[ps.Term], effort: Effort, endpoint: str) -> Times:
    """Seconds of the recorder's calls, and of nothing, between forward and backward pass."""
    pipeline = ps.Pipeline(terms)
    watched = ps.Pipeline(terms, name="watched")
    with ps.watch(watched, run="benchmark", endpoint=endpoint):
        modes = {
            OURS: _timed(training, pipeline, recording(watched)),
            CLOCK: _timed(training, pipeline, lambda _: None),
        }
        return in_blocks(modes, blocks=effort.blocks, length=effort.block_steps)


def recording(watched: ps.Pipeline) -> Callable[[ps.PipelineResult], None]:
    """All that watching adds to a call of the pipeline, for a result that is already there."""

    def record(result: ps.PipelineResult) -> None:
        audience = watched._audience
        if audience.starts:
            audience.start(watched, watched.step)
        stop = audience.stop
        stop(watched, result)

    return record


def _timed(
    training: Training, pipeline: ps.Pipeline, call: Callable[[ps.PipelineResult], None]
) -> Callable[[], float]:
    def step() -> float:
        result = training.forward(pipeline)
        started = time.perf_counter()
        call(result)
        took = time.perf_counter() - started
        training.finish(result.loss)
        return took

    return step


def _whole_step(training: Training, pipeline: ps.Pipeline) -> Callable[[], float]:
    def step() -> float:
        started = time.perf_counter()
        training.step(pipeline)
        return time.perf_counter() - started

    return step
