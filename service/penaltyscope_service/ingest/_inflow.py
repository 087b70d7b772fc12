"""Bounds the memory of all bodies that are being read at the same time."""

from http import HTTPStatus
from typing import Final

from penaltyscope_service.refusal import RefusedError

_RETRY_SECONDS: Final = 1


class Inflow:
    """Bytes of unfinished bodies; a single one is always let in, however small the bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bodies = 0
        self._bytes = 0

    def begin(self) -> "Arriving":
        """Counts one more body, until it is closed."""
        self._bodies += 1
        return Arriving(self)

    def end(self, size: int) -> None:
        """Forgets a body, of which so many bytes were counted."""
        self._bodies -= 1
        self._bytes -= size

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

    def close(self) -> None:
        """It was read, or is not read any further."""
        self._inflow.end(self.size)
