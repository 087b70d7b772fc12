"""Mixed load on one service for as long as is wanted; memory and file descriptors must stay flat.

``python -m tests.end_to_end.soak --minutes 60`` prints a line every 15 s and one with the result.
Clients send steps of runs that end and are followed by others, so that old ones are deleted and
space is given back; meanwhile the service is scraped, charts are drawn, runs are exported, and
the history is backed up. Warm is the middle third of the time: memory in the last third must not
be more than a tenth above it.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import httpx

from penaltyscope_service.history import back_up
from tests.end_to_end.book import HEADERS, Client
from tests.end_to_end.forked import kill, start

CLIENTS: Final = 8
RUNS_KEPT: Final = 24
BYTES_KEPT: Final = 64 * 1024**2
STEPS_OF_A_RUN: Final = 10_000
MEMORY_GROWTH: Final = 1.1
MORE_DESCRIPTORS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The service at one moment."""

    seconds: float
    resident_bytes: int
    descriptors: int
    threads: int
    history_bytes: int
    runs: int
    steps_sent: int


class Soak:
    """The load and the watch on it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._log = folder.with_name("service.log")
        flags = ("--port", "0", "--data-dir", str(folder))
        limits = ("--retention-runs", str(RUNS_KEPT), "--retention-bytes", str(BYTES_KEPT))
        self._service = start([*flags, *limits, "--terminal-grace-seconds", "5"], self._log)
        self._http = httpx.Client(timeout=60)
        self._random = Random(seed)
        self._ending = threading.Event()
        self._failures: list[BaseException] = []
        self.steps_sent = 0
        self.requests = 0

    def run(self, seconds: float, *, pause_seconds: float) -> Iterator[Sample]:
        """Loads the service for so long; yields samples.

        Raises:
            AssertionError: if a request failed.
        """
        self._http.base_url = self._address()
        work = [self._send] * CLIENTS + [self._scrape, self._look, self._export, self._back_up]
        threads = [threading.Thread(target=self._repeat, args=(w, i)) for i, w in enumerate(work)]
        for thread in threads:
            thread.start()
        try:
            started = time.monotonic()
            while (now := time.monotonic() - started) < seconds and not self._failures:
                yield self._sample(now)
                self._ending.wait(pause_seconds)
        finally:
            self._ending.set()
            for thread in threads:
                thread.join()
            kill(self._service)
            self._http.close()
        assert not self._failures, self._failures

    def _address(self) -> str:
        while self._service.is_alive():
            text = self._log.read_text() if self._log.exists() else ""
            if "listening on " in text:
                return text.partition("listening on ")[2].split()[0]
            time.sleep(0.05)
        raise AssertionError(f"the service did not start: {self._log.read_text()}")

    def _repeat(self, work: Callable[[int], None], number: int) -> None:
        try:
            while not self._ending.is_set():
                work(number)
                self.requests += 1
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            self._failures.append(error)

    def _send(self, number: int) -> None:
        """One run from its first step to its last."""
        run = f"run-{number}-{time.monotonic_ns()}"
        client = Client(run, number, Random(self._random.random()), self._post)
        while client.book.steps < STEPS_OF_A_RUN and not self._ending.is_set():
            before = client.book.steps
            client.send()
            self.steps_sent += client.book.steps - before
            self._ending.wait(0.05)
        client.end()

    def _post(self, body: bytes) -> None:
        while not self._ending.is_set():
            answer = self._http.post("/v1/logs", content=body, headers=HEADERS)
            if answer.is_success:
                return
            assert answer.status_code == 503, answer.text
            self._ending.wait(float(answer.headers["retry-after"]))

    def _scrape(self, _number: int) -> None:
        self._http.get("/metrics").raise_for_status()
        self._ending.wait(1.0)

    def _look(self, _number: int) -> None:
        for run in self._http.get("/api/runs").raise_for_status().json()["runs"][:4]:
            for part in ("", "/series?points=1000"):
                answer = self._http.get(f"/api/runs/{run['run']}{part}")
                assert answer.status_code in (200, 404, 422), answer.text  # it may be deleted
        self._ending.wait(1.0)

    def _export(self, _number: int) -> None:
        for run in self._http.get("/api/runs").raise_for_status().json()["runs"][-1:]:
            kind = self._random.choice(["csv", "jsonl", "parquet"])
            with self._http.stream("GET", f"/api/runs/{run['run']}/export?format={kind}") as answer:
                assert answer.status_code in (200, 404), answer.status_code
                for _ in answer.iter_raw():
                    pass
        self._ending.wait(5.0)

    def _back_up(self, _number: int) -> None:
        copy = self._folder.with_name("copy")
        back_up(self._folder / "history.sqlite", copy)
        copy.unlink()
        self._ending.wait(20.0)

    def _sample(self, seconds: float) -> Sample:
        process = Path(f"/proc/{self._service.pid}")
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if line
        )
        files = [self._folder / f"history.sqlite{suffix}" for suffix in ("", "-wal")]
        return Sample(
            seconds=seconds,
            resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
            descriptors=len(list((process / "fd").iterdir())),
            threads=int(status["Threads"]),
            history_bytes=sum(file.stat().st_size for file in files if file.exists()),
            runs=len(self._http.get("/api/runs").raise_for_status().json()["runs"]),
            steps_sent=self.steps_sent,
        )


def require_flat(samples: list[Sample]) -> tuple[float, int]:
    """Growth of memory, and of descriptors, from the middle third to the last one.

    Raises:
        AssertionError: if either is more than noise.
    """
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    memory = [statistics.median(s.resident_bytes for s in part) for part in (middle, last)]
    descriptors = [int(statistics.median(s.descriptors for s in part)) for part in (middle, last)]
    growth, more = memory[1] / memory[0], descriptors[1] - descriptors[0]
    assert growth <= MEMORY_GROWTH, f"memory grew by {growth:.3f}"
    assert more <= MORE_DESCRIPTORS, f"{more} more descriptors"
    return growth, more


def main() -> None:
    """Prints as it goes; raises when something grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder) / "data", arguments.seed)
        samples = []
        for sample in soak.run(arguments.minutes * 60, pause_seconds=15.0):
            samples.append(sample)
            sys.stdout.write(f"{sample}\n")
            sys.stdout.flush()
    growth, more = require_flat(samples)
    largest = max(sample.history_bytes for sample in samples)
    sys.stdout.write(
        f"{arguments.minutes:g} min, {soak.steps_sent} steps, {soak.requests} requests: memory of "
        f"the last third is {growth:.3f} times that of the middle third, {more} more descriptors, "
        f"history at most {largest / 1e6:.1f} MB\n"
    )


if __name__ == "__main__":
    main()
