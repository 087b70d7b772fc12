"""Bounds the memory of all bodies that are being read at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from penaltyscope_service.ingest._refusal import RefusedError

_RETRY_SECONDS: Final = 1


class Inflow:
    """Bytes of unfinished bodies; a single one is always let in, however small the bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bodies = 0
        self._bytes = 0

    @contextmanager
    def body(self) -> Iterator["Arriving"]:
        """Counts one body while it is read."""
        arriving = Arriving(self)
        self._bodies += 1
        try:
            yield arriving
        finally:
            self._bodies -= 1
            self._bytes -= arriving.size

    def add(self, size: int) -> None:
        """Counts bytes that have been read.

        Raises:
            RefusedError: 503, if other bodies take up the room.
        """
        self._bytes += size
        if self._bytes > self._max_bytes and self._bodies > 1:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._bodies} bodies of {self._bytes} bytes are being read already; send this "
                "one again later.",
                retry_after_seconds=_RETRY_SECONDS,
            )


class Arriving:
    """One body, as far as it has been read."""

    def __init__(self, inflow: Inflow) -> None:
        self._inflow = inflow
        self.size = 0
        """Bytes read."""

    def add(self, size: int) -> None:
        """Counts a chunk; raises RefusedError (503) if there is no room for it."""
        self.size += size
        self._inflow.add(size)
