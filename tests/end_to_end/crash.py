"""Kills a service again and again while eight clients send; the books must agree every time.

``python -m tests.end_to_end.crash --kills 200`` takes about ten minutes and prints one line per
kill and one with the result. Every kill is a ``kill -9`` at a random instant: while requests are
decoded, written, packed or acknowledged, and at times before the service has started. After each
one the service is started again, the clients send again what was not acknowledged, and then the
steps, values and NaNs in the history, those on ``/metrics`` and those in the clients' books are
compared, rank by rank.
"""

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Final

import httpx

from tests.end_to_end.book import (
    HEADERS,
    RETRY_SECONDS,
    Client,
    Sums,
    sums_of_history,
    sums_of_metrics,
)
from tests.end_to_end.forked import kill, start

CLIENTS: Final = 8
RUNS: Final = 3
START_SECONDS: Final = 60.0


class Crash:
    """One service after the other on the same folder and port, and the clients."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = Random(seed)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=30)
        self._sending, self._ending = threading.Event(), threading.Event()
        self._resting = threading.Semaphore(0)
        self._failures: list[BaseException] = []
        self._clients = [
            Client(f"run-{i % RUNS}", i, Random(seed * 1000 + i), self._post)
            for i in range(CLIENTS)
        ]
        self._threads = [threading.Thread(target=self._send, args=(c,)) for c in self._clients]
        self.starts_killed = 0
        self.retries = 0

    @property
    def book(self) -> Sums:
        """What all clients know together."""
        return sum((client.book for client in self._clients), Sums())

    def run(self, kills: int) -> Iterator[str]:
        """Kills and compares so often; yields a line each time.

        Raises:
            AssertionError: as soon as the books differ.
        """
        service = self._start()
        self._sending.set()
        for thread in self._threads:
            thread.start()
        try:
            self._await_start(service)
            for number in range(1, kills + 1):
                self._sending.set()
                self._ending.wait(self._random.uniform(0.0, 1.5))
                service = self._kill_and_start(service)
                self._await_start(service)
                self._rest()
                self._compare()
                yield f"kill {number}: {self.book}, {self.retries} retries"
        finally:
            self._ending.set()
            self._sending.set()
            for thread in self._threads:
                thread.join()
            kill(service)
            self._http.close()

    def _kill_and_start(self, service: BaseProcess) -> BaseProcess:
        kill(service)
        service = self._start()
        if self._random.random() < 0.15:  # while it starts, too
            self._ending.wait(self._random.uniform(0.0, 2.0))
            self.starts_killed += 1
            kill(service)
            service = self._start()
        return service

    def _start(self) -> BaseProcess:
        flags = ["--port", str(self._port), "--data-dir", str(self._folder)]
        return start(flags, self._folder.with_name("service.log"))

    def _await_start(self, service: BaseProcess) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert service.is_alive(), f"the service ended with {service.exitcode}"
            try:
                self._http.get("/readyz").raise_for_status()
            except httpx.HTTPError:
                time.sleep(RETRY_SECONDS)
            else:
                return
        raise AssertionError(f"the service was not ready within {START_SECONDS:g} s")

    def _send(self, client: Client) -> None:
        try:
            while not self._ending.is_set():
                if not self._sending.is_set():
                    self._resting.release()
                    self._sending.wait()
                    continue
                client.send()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            self._failures.append(error)
            self._resting.release()

    def _post(self, body: bytes) -> None:
        while True:
            try:
                answer = self._http.post("/v1/logs", content=body, headers=HEADERS)
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 200:
                    return
                assert answer.status_code == 503, answer
            if self._ending.is_set():
                raise RuntimeError("the end came before the acknowledgement")
            self.retries += 1
            time.sleep(RETRY_SECONDS)

    def _rest(self) -> None:
        """Waits until every client has got its acknowledgement."""
        self._sending.clear()
        for _ in self._clients:
            assert self._resting.acquire(timeout=START_SECONDS), "a client is not acknowledged"
        assert not self._failures, self._failures

    def _compare(self) -> None:
        shown = sums_of_metrics(self._http)
        for run in range(RUNS):
            name = f"run-{run}"
            clients = {c.rank: c.book for c in self._clients if c.run == name and c.book.steps}
            if not clients:
                continue
            kept = sums_of_history(self._folder / "history.sqlite", name)
            assert kept == clients, f"{name}: history {kept}, clients {clients}"
            for rank, book in clients.items():
                assert shown[name, rank] == (book.steps, book.nans), (name, rank, shown, book)


def main() -> None:
    """Prints as it goes; raises when the books differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        crash = Crash(Path(folder) / "data", arguments.seed)
        (Path(folder) / "data").mkdir()
        for line in crash.run(arguments.kills):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{arguments.kills} kills and {crash.starts_killed} more while starting: the books of "
        f"{CLIENTS} clients, the history and /metrics agreed every time; {crash.book}, "
        f"{crash.retries} retries, {time.monotonic() - started:.0f} s\n"
    )


if __name__ == "__main__":
    main()
