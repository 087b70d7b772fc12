"""A training job that is killed once it has drained."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SOURCE = """
import torch, penaltyscope as ps
pipeline = ps.Pipeline([ps.Term("size", ps.l2)])
x = torch.ones(2, requires_grad=True)
run = ps.watch(pipeline, run="r", {arguments})
while True:
    pipeline(x).loss.backward()
    if pipeline.step == {steps}:
        run.flush({flush_seconds})
        print("drained", flush=True)
"""


@contextmanager
def killed(arguments: str, *, steps: int = 200, flush_seconds: float = 10.0) -> Iterator[None]:
    """Trains on while the block runs, and gets ``kill -9`` at its end.

    Args:
        arguments: of ``watch``, as source.
        steps: that are drained when the block begins.
        flush_seconds: how long they may take on their way out.
    """
    source = SOURCE.format(arguments=arguments, steps=steps, flush_seconds=flush_seconds)
    job = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "drained\n"
        yield
    finally:
        job.kill()
        job.communicate()
