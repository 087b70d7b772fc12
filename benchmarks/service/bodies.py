"""The same numbers as each server wants them: finite, different at every step."""

from collections.abc import Iterator

import numpy as np

from benchmarks.service.load import request
from penaltyscope_events import RunIdentity, StepBlock, encode_request, encode_steps

OTLP = {"content-type": "application/x-protobuf"}


def block(first: int, steps: int, terms: int) -> StepBlock:
    """Steps as a training run makes them: numbers that were computed in float32."""
    random = np.random.default_rng(first)
    shape = (steps, terms)
    value = random.random(shape, np.float32).astype(np.float64)
    weight = np.broadcast_to(np.float64(0.1), shape).copy()
    norm = random.random(shape, np.float32).astype(np.float64)
    seq = np.arange(first, first + steps)
    contribution = weight * value
    return StepBlock(
        pipeline="distillation",
        incarnation="1",
        terms=tuple(f"term_{i}" for i in range(terms)),
        step=seq,
        seq=seq,
        stop_ns=1_700_000_000_000_000_000 + seq * 10_000_000 + random.integers(0, 100_000, steps),
        duration=random.integers(1_000_000, 2_000_000, steps) / 1e9,
        base=random.random(steps, np.float32).astype(np.float64),
        has_base=np.ones(steps, np.bool_),
        total=contribution.sum(axis=1).astype(np.float32).astype(np.float64),
        total_gradient_norm=random.random(steps, np.float32).astype(np.float64),
        value=value,
        weight=weight,
        contribution=contribution,
        gradient_norm=norm,
        flags=np.zeros(shape, np.int32),
    )


def ours(requests: int, steps: int, terms: int, runs: int) -> Iterator[bytes]:
    """OTLP requests as the library sends them, run after run in turn."""
    for i in range(requests):
        scope = encode_steps(block(i // runs * steps, steps, terms))
        body = encode_request(RunIdentity(run_id=f"run-{i % runs}"), [scope])
        yield request("/v1/logs", OTLP, body)
