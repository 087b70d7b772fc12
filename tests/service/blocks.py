"""Requests as a job sends them."""

from collections.abc import Sequence

import numpy as np

from penaltyscope_events import RunIdentity, StepBlock, encode_request, encode_steps


def make_block(
    steps: int = 3,
    terms: Sequence[str] = ("sparsity", "distill"),
    *,
    first: int = 0,
    pipeline: str = "distillation",
    incarnation: str = "first",
) -> StepBlock:
    """Different finite numbers everywhere, the same ones for the same ``first``."""
    random = np.random.default_rng(first)
    shape = (steps, len(terms))
    value = random.random(shape)
    seq = np.arange(first, first + steps)
    return StepBlock(
        pipeline=pipeline,
        incarnation=incarnation,
        terms=tuple(terms),
        step=seq * 10,
        seq=seq,
        stop_ns=1_700_000_000_000_000_000 + seq * 1_000_000,
        duration=random.random(steps),
        base=random.random(steps),
        has_base=np.ones(steps, np.bool_),
        total=value.sum(axis=1),
        total_gradient_norm=random.random(steps),
        value=value,
        weight=np.ones(shape),
        contribution=value.copy(),
        gradient_norm=random.random(shape),
        flags=np.zeros(shape, np.int32),
    )


def make_request(*blocks: StepBlock, run: str = "resnet-kd-7", rank: int = 0) -> bytes:
    """A protobuf request with the blocks of one process."""
    identity = RunIdentity(run_id=run, rank=rank)
    return encode_request(identity, [encode_steps(block) for block in blocks])
