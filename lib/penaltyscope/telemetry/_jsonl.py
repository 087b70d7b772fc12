"""Records in files, one JSON object per line. Reference: docs/jsonl.md."""

import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penaltyscope.telemetry._channel import Steps
from penaltyscope.telemetry._file_name import file_stem
from penaltyscope.telemetry._sink import Sink, Source
from penaltyscope_events import Event, RunIdentity, event_lines, step_lines

_logger = logging.getLogger("penaltyscope")


@dataclass(frozen=True, slots=True)
class JSONL(Sink):
    """Writes one line of JSON for every evaluation and event.

    Each process of the run writes files of its own, so ranks may share the directory; it is made
    if it is missing.
    """

    directory: str | os.PathLike[str]
    file_bytes: int = 64 * 1024 * 1024
    """A file that has grown to this size is followed by a new one."""
    max_bytes: int = 1024 * 1024 * 1024
    """Of all files of one process; the oldest are deleted beyond it."""

    def open(self, source: Source) -> "LineWriter":
        """The writer for one process.

        Raises:
            ValueError: a size is not positive.
        """
        for name in ("file_bytes", "max_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        stem = file_stem(source.identity, source.incarnation)
        return LineWriter(
            Path(self.directory) / stem,
            source.identity,
            file_bytes=self.file_bytes,
            max_bytes=self.max_bytes,
        )


class LineWriter:
    """Appends lines to ``STEM.NNNNNN.jsonl``, and begins the next file when one is full."""

    lost_steps = 0

    def __init__(
        self, stem: Path, identity: RunIdentity, *, file_bytes: int, max_bytes: int
    ) -> None:
        self._stem = stem
        self._identity = identity
        self._file_bytes = file_bytes
        self._max_bytes = max_bytes
        self._number = 0
        self._descriptor: int | None = None
        self._size = 0
        self._full: deque[tuple[Path, int]] = deque()

    def send(self, steps: Sequence[Steps], events: Sequence[Event]) -> None:
        """Writes the lines of one batch.

        Raises:
            OSError: they could not be written; the file ends with the last line before them.
        """
        lines = b"".join(step_lines(self._identity, part.block, part.traces) for part in steps)
        self._write(lines + event_lines(self._identity, events))
        if self._size >= self._file_bytes:
            self._turn()

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002  # of the protocol
        """There is nothing to wait for: lines are with the operating system once sent."""
        return True

    def close(self, timeout_seconds: float) -> None:  # noqa: ARG002  # of the protocol
        """Closes the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def _path(self) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{self._number:06}.jsonl")

    def _write(self, lines: bytes) -> None:
        if self._descriptor is None:
            self._stem.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self._path, flags, 0o666)
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # No half line in the middle of the file when there is room again.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(lines)

    def _turn(self) -> None:
        self.close(0)
        self._full.append((self._path, self._size))
        self._number += 1
        self._size = 0
        # With room for the file that now begins.
        room = self._max_bytes - self._file_bytes
        while self._full and sum(size for _, size in self._full) > room:
            oldest, _ = self._full.popleft()
            oldest.unlink(missing_ok=True)
            _logger.warning("%s is deleted: max_bytes is reached", oldest)
