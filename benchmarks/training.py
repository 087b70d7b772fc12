"""Training steps to measure in, and a service to send to."""

import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

import penaltyscope as ps

STEP_SECONDS = 0.010
"""Of the step that the recorder is measured in."""


class Training:
    """A real step: a perceptron, the penalties on its log-probabilities, backward and update."""

    def __init__(self, sizes: Sequence[int] = (512, 1024, 1024, 128), batch: int = 64) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self._model = nn.Sequential(*(part for layer in layers for part in (nn.Tanh(), layer)))
        self.batch = batch
        self._x = torch.randn(batch, sizes[0])
        self._teacher = torch.randn(batch, sizes[-1]).log_softmax(-1)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-4)

    def forward(self, pipeline: ps.Pipeline) -> ps.PipelineResult:
        """The model, and the penalties on its log-probabilities ``[batch, sizes[-1]]``."""
        student = self._model(self._x).log_softmax(-1)
        result: ps.PipelineResult = pipeline(student=student, teacher=self._teacher)
        return result

    def finish(self, loss: Tensor) -> None:
        """Backward pass and update."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def step(self, pipeline: ps.Pipeline) -> None:
        """A whole step."""
        self.finish(self.forward(pipeline).loss)


def training_at_pace(pipeline: ps.Pipeline) -> Training:
    """One whose steps take 10 ms on this machine, now: the batch makes them as long.

    The first batch that takes as long is searched for, over a bounded range, by halves.
    """
    batches = range(4, 260, 4)
    found = bisect_left(
        batches, STEP_SECONDS, key=lambda batch: _pace(Training(batch=batch), pipeline)
    )
    return Training(batch=batches[min(found, len(batches) - 1)])


def _pace(training: Training, pipeline: ps.Pipeline) -> float:
    """Seconds of a whole step, the median of some after the first."""
    times = []
    for _ in range(9):
        started = time.perf_counter()
        training.step(pipeline)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


class PythonHeavyTraining(Training):
    """A step of some milliseconds that is mostly the interpreter's: it feels every lost GIL."""

    def __init__(self, words: int = 20_000) -> None:
        super().__init__(sizes=(32, 64, 64, 64, 64, 128), batch=16)
        self._words = [f"word{i * i % 997}" for i in range(words)]

    def step(self, pipeline: ps.Pipeline) -> None:
        """Counts words, as a collator does, and trains."""
        counts: dict[str, int] = {}
        for word in self._words:
            counts[word] = counts.get(word, 0) + 1
        super().step(pipeline)


@contextmanager
def service() -> Iterator[str]:
    """A service in a process of its own on a free port, so that batches are really sent."""
    script = "from penaltyscope_service.cli import main; main()"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-c", script, "serve", "--port", "0", "--data-dir", data]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.communicate(timeout=10)
