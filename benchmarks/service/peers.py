"""What other servers want to be sent: every number of a term is a series of its own."""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import cramjam
import numpy as np
from numpy.typing import NDArray

from benchmarks.service.bodies import block
from benchmarks.service.load import request
from penaltyscope_events import StepBlock

REMOTE_WRITE: Final = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
}
TEXT: Final = {"content-type": "text/plain"}
NUMBERS: Final = ("value", "weight", "contribution", "gradient_norm")
"""Of a term at a step, as our records have them."""


def remote_write(
    path: str,
    requests: int,
    steps: int,
    terms: int,
    runs: int,
    start_ms: int,
    numbers: Sequence[str] = NUMBERS,
) -> Iterator[bytes]:
    """Prometheus' own protocol: protobuf under snappy, steps of 10 ms from ``start_ms`` on."""
    for i in range(requests):
        first = i // runs * steps
        steps_block = block(first, steps, terms)
        times = [start_ms + 10 * (first + n) for n in range(steps)]
        series = b"".join(
            _field(0x0A, _labels(i % runs, term, number) + _samples(column[:, t], times))
            for number, column in _columns(steps_block, numbers)
            for t, term in enumerate(steps_block.terms)
        )
        yield request(path, REMOTE_WRITE, bytes(cramjam.snappy.compress_raw(series)))


def text_import(requests: int, steps: int, terms: int, runs: int, start_ms: int) -> Iterator[bytes]:
    """VictoriaMetrics' import of Prometheus' text format."""
    for i in range(requests):
        first = i // runs * steps
        steps_block = block(first, steps, terms)
        body = "".join(
            f'{_name(number)}{{run="run-{i % runs}",pipeline="distillation",term="{term}"}} '
            f"{float(column[n, t])!r} {start_ms + 10 * (first + n)}\n"
            for number, column in _columns(steps_block, NUMBERS)
            for t, term in enumerate(steps_block.terms)
            for n in range(steps)
        )
        yield request("/api/v1/import/prometheus", TEXT, body.encode())


def push(requests: int, terms: int, groups: int) -> Iterator[bytes]:
    """The Pushgateway keeps the last step only: each request is one, of one of the groups."""
    for i in range(requests):
        steps_block = block(i // groups, 1, terms)
        body = "".join(
            f"# TYPE {_name(number)} gauge\n"
            + "".join(
                f'{_name(number)}{{pipeline="distillation",term="{term}"}} '
                f"{float(column[0, t])!r}\n"
                for t, term in enumerate(steps_block.terms)
            )
            for number, column in _columns(steps_block, NUMBERS)
        )
        path = f"/metrics/job/penaltyscope/run/run-{i % groups}"
        yield request(path, TEXT, body.encode(), method="PUT")


def _columns(block: StepBlock, numbers: Sequence[str]) -> list[tuple[str, NDArray[np.float64]]]:
    return [(number, getattr(block, number)) for number in numbers]


def _name(number: str) -> str:
    return f"penaltyscope_term_{number}"


def _labels(run: int, term: str, number: str) -> bytes:
    labels = {
        "__name__": _name(number),
        "pipeline": "distillation",
        "run": f"run-{run}",
        "term": term,
    }
    return b"".join(
        _field(0x0A, _field(0x0A, name.encode()) + _field(0x12, value.encode()))
        for name, value in labels.items()
    )


def _samples(values: NDArray[np.float64], times: list[int]) -> bytes:
    return b"".join(
        _field(0x12, struct.pack("<Bd", 0x09, value) + b"\x10" + _varint(time))
        for value, time in zip(values.tolist(), times, strict=True)
    )


def _field(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
