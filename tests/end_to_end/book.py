"""What a client knows to be true: every step it has sent until it was acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import (
    COLUMNS,
    Event,
    RunIdentity,
    StepBlock,
    complete_flags,
    encode_events,
    encode_request,
    encode_steps,
    names,
)
from penaltyscope_service.history import Archive

HEADERS = {"content-type": "application/x-protobuf"}
RETRY_SECONDS = 0.05
START_NS = 10**18
PIPELINE = "p"
TERMS = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the steps of one rank; values are whole numbers, so that sums are exact."""

    steps: int = 0
    values: float = 0.0
    """Of all finite values of all terms."""
    nans: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.steps + other.steps, self.values + other.values, self.nans + other.nans)

    @classmethod
    def of(cls, value: NDArray[np.float64]) -> "Sums":
        """``value`` is ``[N, T]``."""
        return cls(len(value), float(np.nansum(value)), int(np.isnan(value).sum()))


@dataclass
class Client:
    """One rank of a run that sends whatever it is told to until it is acknowledged."""

    run: str
    rank: int
    random: Random
    post: Callable[[bytes], None]
    """Returns when the service has acknowledged, however often it has to be tried."""
    book: Sums = Sums()
    incarnation: int = 0
    seq: int = 0
    step: int = 0
    last: bytes = field(default=b"", repr=False)

    def send(self) -> None:
        """The next request: mostly steps, at times an old one again or a new life."""
        chance = self.random.random()
        if chance < 0.05 and self.last:
            self.post(self.last)
            return
        if chance < 0.08:
            self.end()
            self.incarnation, self.seq = self.incarnation + 1, 0
        block = self._block(self.random.randint(1, 150))
        body = encode_request(self._identity(), [encode_steps(block)])
        self.post(body)
        self.last = body
        self.book += Sums.of(block.value)

    def _identity(self) -> RunIdentity:
        return RunIdentity(run_id=self.run, rank=self.rank, world_size=8)

    def end(self) -> None:
        """Says that the process ended well."""
        event = Event(
            name=names.RUN_END,
            time_ns=START_NS + self.step * 1_000_000_000,
            attributes={names.STATUS: "finished"},
        )
        self.post(encode_request(self._identity(), [encode_events([event])]))

    def _block(self, rows: int) -> StepBlock:
        shape = (rows, len(TERMS))
        seq = np.arange(self.seq, self.seq + rows)
        step = np.arange(self.step, self.step + rows)
        value = np.array([self.random.randint(0, 1000) for _ in range(rows * len(TERMS))], float)
        value[np.array([self.random.random() < 0.001 for _ in range(len(value))])] = np.nan
        value = value.reshape(shape)
        self.seq, self.step = self.seq + rows, self.step + rows
        norm = np.ones(shape)
        return StepBlock(
            pipeline=PIPELINE,
            incarnation=str(self.incarnation),
            terms=TERMS,
            step=step,
            seq=seq,
            stop_ns=START_NS + step * 1_000_000_000,
            duration=np.full(rows, 0.25),
            base=np.ones(rows),
            has_base=np.ones(rows, np.bool_),
            total=value.sum(axis=1),
            total_gradient_norm=np.ones(rows),
            value=value,
            weight=np.ones(shape),
            contribution=value.copy(),
            gradient_norm=norm,
            flags=complete_flags(np.zeros(shape, np.int32), value, norm),
        )


def sums_of_history(path: Path, run: str) -> dict[int, Sums]:
    """By rank; fails when a step is there twice or has other numbers than its neighbours say."""
    sums: dict[int, Sums] = {}
    with Archive.open(path, run) as archive:
        assert archive is not None, f"{run} is not in the history"
        for stream in archive.streams:
            seen: set[tuple[str, int]] = set()
            for block in archive.steps(stream):
                numbers = {(block.incarnation, seq) for seq in block.seq.tolist()}
                assert len(numbers) == len(block), "a step is there twice in one block"
                assert not numbers & seen, "a step is there twice"
                seen |= numbers
                assert {len(getattr(block, name)) for name in COLUMNS} == {len(block)}
                sums[stream.rank] = sums.get(stream.rank, Sums()) + Sums.of(block.value)
    return sums


def sums_of_metrics(http: httpx.Client) -> dict[tuple[str, int], tuple[int, int]]:
    """Steps and NaNs by run and rank."""
    text = http.get("/metrics").raise_for_status().text
    steps: dict[tuple[str, int], int] = {}
    nans: dict[tuple[str, int], int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        labels = dict(part.split("=", 1) for part in rest.partition("}")[0].split(",") if part)
        labels = {key: value.strip('"') for key, value in labels.items()}
        number = line.rpartition(" ")[2]
        if name == "penaltyscope_pipeline_steps_total":
            key = (labels["run"], int(labels["rank"]))
            steps[key] = int(float(number))
        elif name == "penaltyscope_nonfinite_total" and labels["stage"] == "value":
            key = (labels["run"], int(labels["rank"]))
            nans[key] = nans.get(key, 0) + (int(float(number)) if labels["kind"] == "nan" else 0)
    return {key: (count, nans.get(key, 0)) for key, count in steps.items()}
