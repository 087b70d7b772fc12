"""Processor time of everything but the training thread, per watched step.

Draining, encoding, compressing and sending, to a service that really receives it.
"""

import time
from collections.abc import Sequence

import penaltyscope as ps
from benchmarks.effort import Effort
from benchmarks.row import Row
from benchmarks.terms import TERMS
from benchmarks.training import Training, service


def rows(effort: Effort) -> list[Row]:
    """With eight terms."""
    with service() as endpoint:
        spent = background_seconds(TERMS, effort.steps, endpoint)
    return [Row("background CPU per step", spent * 1e6, "us", bar=10.0)]


def background_seconds(terms: Sequence[ps.Term], steps: int, endpoint: str) -> float:
    """Per step, over a stretch in the middle of a run: what is late at its end began earlier."""
    training, pipeline = Training(), ps.Pipeline(terms)
    with ps.watch(pipeline, run="benchmark-background", endpoint=endpoint):
        for _ in range(min(steps, 128)):
            training.step(pipeline)
        before = _others()
        for _ in range(steps):
            training.step(pipeline)
        # Without a flush, which would drain on this thread.
        return (_others() - before) / steps


def _others() -> float:
    return time.process_time() - time.thread_time()
