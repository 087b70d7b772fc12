"""Requests that wait on disk until the receiver has taken them. Reference: docs/spool.md."""

import logging
import os
from collections import Counter, deque
from pathlib import Path

from penaltyscope.telemetry._outbox import Request
from penaltyscope_events import spool

_logger = logging.getLogger("penaltyscope")

_SEGMENT_BYTES = 4 * 1024 * 1024


class SpoolOutbox:
    """Writes every request to disk before it is sent, and forgets it when it was answered.

    What earlier processes left in the same directory goes first, unless they are still alive.
    Beyond ``max_bytes`` the oldest segment is given up. Where the disk fails, requests wait in
    memory instead, within the same bound.
    """

    durable = True

    def __init__(
        self, directory: Path, stem: str, *, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._segments = _Segments(directory / stem, min(segment_bytes, max_bytes))
        self._max_bytes = max_bytes
        self._queue: deque[spool.Frame | Request] = deque()
        self._in_segment: Counter[Path] = Counter()
        self._bytes = 0
        self._lost_steps = 0
        self._claims: dict[Path, int] = {}
        self._failing = False
        try:
            self._adopt()
        except OSError as error:
            self._fail(error)

    @property
    def lost_steps(self) -> int:
        """Steps that were given up for want of room, or could not be read again."""
        return self._lost_steps

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, request: Request) -> None:
        """Writes a request; gives up the oldest segment for it when there is no room."""
        try:
            self._take(self._segments.write(request))
            self._failing = False
        except OSError as error:
            self._fail(error)
            self._take(request)
        # The first is being sent; the one behind it is the oldest that can be given up.
        while self._bytes > self._max_bytes and len(self._queue) > 1:
            self._give_up(self._queue[1])

    def first(self) -> Request | None:
        """The oldest request, read back from its file; passes over what cannot be read."""
        while self._queue:
            oldest = self._queue[0]
            if isinstance(oldest, Request):
                return oldest
            if (body := oldest.read()) is not None:
                return Request(body, oldest.steps)
            self._lost_steps += oldest.steps
            _logger.warning("%d steps in %s cannot be read", oldest.steps, oldest.segment)
            self.drop_first()
        return None

    def drop_first(self) -> None:
        """Forgets the oldest request, and the segment that it was the last of."""
        self._forget(self._queue.popleft())

    def close(self) -> int:
        """Leaves what is waiting on disk; only what had to wait in memory is lost."""
        try:
            self._segments.close()
        except OSError as error:
            self._fail(error)
        for claim in self._claims.values():
            os.close(claim)
        self._claims.clear()
        if kept := sum(item.steps for item in self._queue if isinstance(item, spool.Frame)):
            _logger.warning("%d steps wait in %s", kept, self._directory)
        return sum(item.steps for item in self._queue if isinstance(item, Request))

    def _take(self, item: "spool.Frame | Request") -> None:
        self._queue.append(item)
        self._bytes += _size(item)
        if isinstance(item, spool.Frame):
            self._in_segment[item.segment] += 1

    def _forget(self, item: "spool.Frame | Request") -> None:
        self._bytes -= _size(item)
        if isinstance(item, Request):
            return
        self._in_segment[item.segment] -= 1
        if self._in_segment[item.segment]:
            return
        del self._in_segment[item.segment]
        try:
            self._segments.forget(item.segment)
            self._leave(item.segment.parent)
        except OSError as error:
            self._fail(error)

    def _give_up(self, oldest: "spool.Frame | Request") -> None:
        """Forgets all of a segment but what is being sent."""
        sending = self._queue.popleft()
        if isinstance(oldest, Request):
            given_up: list[spool.Frame | Request] = [oldest]
        else:
            frames = (item for item in self._queue if isinstance(item, spool.Frame))
            given_up = [item for item in frames if item.segment == oldest.segment]
        gone = {id(item) for item in given_up}
        self._queue = deque(item for item in self._queue if id(item) not in gone)
        self._queue.appendleft(sending)
        for item in given_up:
            self._lost_steps += item.steps
            self._forget(item)

    def _adopt(self) -> None:
        """Takes over what processes that are no more have left."""
        for directory in spool.processes(self._directory):
            claim = spool.lock(directory)
            if claim is None:
                continue
            self._claims[directory] = claim
            for segment in spool.segments(directory):
                for frame in spool.frames(segment):
                    self._take(frame)
                if segment not in self._in_segment:
                    segment.unlink()
            self._leave(directory)

    def _leave(self, directory: Path) -> None:
        """Removes the directory of another process when nothing of it is left."""
        if directory in self._claims and not spool.segments(directory):
            spool.remove(directory)
            os.close(self._claims.pop(directory))

    def _fail(self, error: OSError) -> None:
        # Once for each time that it goes wrong, not for every request while a disk is full.
        if not self._failing:
            self._failing = True
            _logger.warning(
                "%s cannot be used, requests wait in memory: %s", self._directory, error
            )


class _Segments:
    """The files that this process writes."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._claim: int | None = None
        self._number = 0
        self._written = 0
        self._descriptor: int | None = None

    @property
    def _path(self) -> Path:
        return spool.segment_path(self._directory, self._number)

    def write(self, request: Request) -> spool.Frame:
        """Appends one request.

        Raises:
            OSError: it could not be written; the file ends with the last request before it.
        """
        if self._descriptor is not None and self._written >= self._segment_bytes:
            os.close(self._descriptor)
            self._descriptor = None
            self._number += 1
        descriptor = self._descriptor if self._descriptor is not None else self._open()
        header, checksum = spool.header(request.body, request.steps)
        rest = memoryview(header + request.body)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            self._cut(descriptor)
            raise
        offset = self._written + len(header)
        self._written = offset + len(request.body)
        return spool.Frame(self._path, offset, len(request.body), request.steps, checksum)

    def forget(self, segment: Path) -> None:
        """Gives the room of a segment back."""
        if segment == self._path and self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self._written = 0
        else:
            segment.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends writing; leaves nothing behind if nothing waits."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            if not self._written:
                self._path.unlink(missing_ok=True)
        if self._claim is not None:
            if not spool.segments(self._directory):
                spool.remove(self._directory)
            os.close(self._claim)
            self._claim = None

    def _cut(self, descriptor: int) -> None:
        """Ends the file behind its last whole request, or leaves it if not even that can be."""
        try:
            os.ftruncate(descriptor, self._written)
        except OSError:
            os.close(descriptor)
            self._descriptor = None
            self._number += 1

    def _open(self) -> int:
        if self._claim is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Before the first segment is there, so that nobody takes it for abandoned.
            self._claim = spool.lock(self._directory)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._written = 0
        return self._descriptor


def _size(item: spool.Frame | Request) -> int:
    return item.length if isinstance(item, spool.Frame) else len(item.body)
