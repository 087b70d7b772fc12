"""How much of the memory's bandwidth the pipeline makes use of.

The forward pass has values, norms, inner products and the total gradient. It has to read both
inputs and to write the gradient, once; what else it moves is its own loss.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

import penaltyscope as ps
from benchmarks.effort import Shape
from benchmarks.measure import ratio
from benchmarks.row import Row
from benchmarks.terms import ELEMENTWISE

MOVED, COPIED = 3, 2
"""Tensors that the pipeline and a copy have to read or to write."""


def bandwidth(shapes: Sequence[Shape], rounds: int, device: torch.device) -> list[Row]:
    """That of the pipeline over that of a copy, for float32 tensors of the given shapes."""
    return [row for shape in shapes for row in _rows(shape, rounds, device)]


def _rows(shape: Shape, rounds: int, device: torch.device) -> list[Row]:
    student = torch.randn(shape, device=device).log_softmax(-1).requires_grad_()
    teacher = torch.randn(shape, device=device).log_softmax(-1)
    target = torch.empty_like(teacher)
    pipeline = ps.Pipeline(ELEMENTWISE, conflict=True)
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(teacher),
        "pipeline": lambda: pipeline(student=student, teacher=teacher),
    }
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_on_device(call, device))
    part = ratio(times, "copy", "pipeline") * MOVED / COPIED
    size = target.numel() * target.element_size()
    copied = COPIED * size / statistics.median(times["copy"]) / 1e9
    where = f"{[*shape]}, {size / 2**20:.3g} MiB"
    return [
        Row(f"bandwidth of the pipeline / of a copy, {where}", part, bar=0.70, at_least=True),
        Row(f"bandwidth of a copy, {where}", copied, "GB/s"),
    ]


def seconds_on_device(call: Callable[[], object], device: torch.device, calls: int = 10) -> float:
    """Of one call, on a GPU without the time that Python takes to launch it."""
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - started) / calls
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    # While the device sleeps everything is queued, so that it then never waits for the host.
    torch.cuda._sleep(200_000_000)
    first.record()
    for _ in range(calls):
        call()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1e3 / calls
