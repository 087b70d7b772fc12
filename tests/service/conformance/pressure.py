"""A service without room: what an exporter meets when it has to wait."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.service.process import Service


@contextmanager
def holding(service: Service) -> Iterator[socket.socket]:
    """Takes up the room for bodies with one that stays unfinished.

    The service must run with ``--queue-bytes 1``.
    """
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 0)) as connection:
        connection.sendall(
            b"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n" + b" " * 500
        )
        headers = {"content-type": "application/json"}
        while httpx.post(f"{service.url}/v1/logs", content=b"{}", headers=headers).is_success:
            time.sleep(0.01)  # until it has read what was sent
        yield connection


@contextmanager
def room_after_a_refusal(service: Service) -> Iterator[None]:
    """There is no room until a request has been refused for that."""
    with holding(service) as connection:
        before = refusals(service)
        over = threading.Event()
        watcher = threading.Thread(target=_give_way, args=(service, connection, before, over))
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        assert refusals(service) > before


def refusals(service: Service) -> float:
    """Requests that were answered 503 or UNAVAILABLE."""
    text = httpx.get(f"{service.url}/metrics").text
    prefix = 'penaltyscope_ingest_request_duration_seconds_count{code="503"} '
    return next(float(line[len(prefix) :]) for line in text.splitlines() if line.startswith(prefix))


def _give_way(
    service: Service, connection: socket.socket, before: float, over: threading.Event
) -> None:
    while refusals(service) <= before and not over.wait(0.05):
        pass
    connection.close()
