"""Sends what processes have left in a spool. Reference: docs/spool.md."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from penaltyscope_events import spool
from penaltyscope_events.delivery import (
    DENIED,
    LONGEST_WAIT_SECONDS,
    RETRYABLE,
    compressed,
    retry_after_seconds,
)

_logger: Final = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where requests are posted, and how patiently."""

    url: str
    headers: Mapping[str, str]
    timeout_seconds: float
    give_up_seconds: float
    """How long one request is tried again while the receiver is away."""


@dataclass(slots=True)
class Outcome:
    """What became of a spool's steps."""

    sent: int = 0
    refused: int = 0
    """The receiver will never take them; they are gone from the spool."""
    unreadable: int = 0
    in_use: int = 0
    """Processes that are alive and send their own."""


class UnreachableError(Exception):
    """The receiver takes nothing: not within the time, or not from us; the spool keeps it."""


def replay(directory: Path, receiver: Receiver, *, sleep: Callable[[float], None]) -> Outcome:
    """Posts every request in order, process by process, and removes what was answered.

    What is interrupted can be run again: a request goes out twice at worst, and counts once.

    Raises:
        UnreachableError: the receiver is away for too long, or lets nobody in with this token.
        OSError: the spool cannot be read or written.
    """
    outcome = Outcome()
    for process in spool.processes(directory):
        claim = spool.lock(process)
        if claim is None:
            outcome.in_use += 1
            continue
        try:
            for segment in spool.segments(process):
                _replay_segment(segment, receiver, outcome, sleep)
            spool.remove(process)
        finally:
            os.close(claim)
    return outcome


def _replay_segment(
    segment: Path, receiver: Receiver, outcome: Outcome, sleep: Callable[[float], None]
) -> None:
    for frame in spool.frames(segment):
        body = frame.read()
        if body is None:
            outcome.unreadable += frame.steps
        elif _post(compressed(body), receiver, sleep):
            outcome.sent += frame.steps
        else:
            outcome.refused += frame.steps
    segment.unlink()


def _post(body: bytes, receiver: Receiver, sleep: Callable[[float], None]) -> bool:
    """Whether the receiver took it; false when it refused it for good."""
    give_up = time.monotonic() + receiver.give_up_seconds
    wait = _FIRST_WAIT_SECONDS
    while True:
        status, retry_after, said = _attempt(body, receiver)
        if status in DENIED:
            raise UnreachableError(said)
        if status is not None and status not in RETRYABLE:
            if status >= 300:
                _logger.error("refused with HTTP %d: %s", status, said)
            return status < 300
        pause = max(wait, retry_after)
        if time.monotonic() + pause > give_up:
            raise UnreachableError(said)
        sleep(pause)
        wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _attempt(body: bytes, receiver: Receiver) -> tuple[int | None, float, str]:
    """Status (None without an answer), seconds to wait at least, and what was said."""
    headers = {
        **receiver.headers,
        "content-type": "application/x-protobuf",
        "content-encoding": "gzip",
    }
    request = Request(receiver.url, data=body, headers=headers, method="POST")
    try:
        with urlopen(request, timeout=receiver.timeout_seconds) as response:
            return response.status, 0.0, ""
    except HTTPError as error:
        said = f"HTTP {error.code}: {error.read(200).decode('utf-8', 'replace')}"
        return error.code, retry_after_seconds(error.headers.get("retry-after")), said
    except (OSError, HTTPException) as error:
        return None, 0.0, str(error)
