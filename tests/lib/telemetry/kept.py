"""A channel that keeps what it is given, or fails when told to, and blocks of steps for it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._sink import Source
from penaltyscope_events import Event, RunIdentity, StepBlock

SOURCE = Source(identity=RunIdentity(run_id="r"), incarnation="i", pipelines={"p": ("a", "b")})


@dataclass
class Kept:
    steps: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    closed: bool = False
    error: BaseException | None = None
    open: threading.Event = field(default_factory=threading.Event)
    """While it is not set, the channel takes nothing."""
    lost_steps: int = 0

    def __post_init__(self) -> None:
        self.open.set()

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        self.open.wait()
        if self.error is not None:
            raise self.error
        for part in steps:
            self.steps += part.block.step.tolist()
        self.events += [event.name for event in events]

    def flush(self, timeout_seconds: float) -> bool:
        return True

    def close(self, timeout_seconds: float) -> None:
        self.closed = True


def steps(
    *numbers: int,
    terms: Sequence[str] = ("a", "b"),
    value: float = 1.0,
    flags: int = 0,
    pipeline: str = "p",
) -> Steps:
    """Evaluations at these steps; each is 1 ms long and ends at as many seconds of Unix time."""
    n, shape = len(numbers), (len(numbers), len(terms))
    block = StepBlock(
        pipeline=pipeline,
        incarnation="i",
        terms=tuple(terms),
        step=np.array(numbers, np.int64),
        seq=np.array(numbers, np.int64),
        stop_ns=np.array(numbers, np.int64) * 10**9,
        duration=np.full(n, 1e-3),
        base=np.full(n, 0.25),
        has_base=np.ones(n, bool),
        total=np.full(n, 0.5),
        total_gradient_norm=np.full(n, 3.0),
        value=np.full(shape, value),
        weight=np.full(shape, 0.5),
        contribution=np.full(shape, 0.5 * value),
        gradient_norm=np.full(shape, 2.0),
        flags=np.full(shape, flags, np.int32),
    )
    return Steps(block, (None,) * n)
