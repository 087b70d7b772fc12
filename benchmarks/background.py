"""Processor time of everything but the training thread, per watched step.

Draining, encoding, compressing and sending, to a service that really receives it.
"""

import time
from collections.abc import Sequence

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import service, training_at_pace


def rows(effort: Effort) -> list[Row]:
    """With eight terms."""
    with service() as endpoint:
        spent, took = background_seconds(TERMS, effort.steps, endpoint)
    return [
        Row("background CPU per step", spent * 1e6, "us", bar=10.0),
        Row("the training step beside it", took * 1e3, "ms"),
    ]


def background_seconds(terms: Sequence[ps.Term], steps: int, endpoint: str) -> tuple[float, float]:
    """Per step, and how long a step took, over a stretch in the middle of a run.

    What is late at its end began earlier.
    """
    training, pipeline = training_at_pace(ps.Pipeline(terms)), ps.Pipeline(terms)
    with ps.watch(pipeline, run="benchmark-background", endpoint=endpoint):
        for _ in range(min(steps, 128)):
            training.step(pipeline)
        before, started = _others(), time.perf_counter()
        for _ in range(steps):
            training.step(pipeline)
        # Without a flush, which would drain on this thread.
        return (_others() - before) / steps, (time.perf_counter() - started) / steps


def _others() -> float:
    return time.process_time() - time.thread_time()
