"""The files in which requests wait on disk: one directory for each process, numbered segments.

A segment is frames, one after the other: 16 bytes of header and the body of a request to
``POST /v1/logs`` as it goes over the wire. Numbers are little-endian: ``PSP1``, length of the body,
steps in it, CRC-32 of the body. Reference: docs/spool.md.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"PSP1"
_HEADER: Final = struct.Struct("<4sIII")
_SUFFIX: Final = ".otlp"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one request lies."""

    segment: Path
    offset: int
    """Of the body, in bytes."""
    length: int
    steps: int
    checksum: int

    def read(self) -> bytes | None:
        """The body; None when it is not there as it was written."""
        try:
            with self.segment.open("rb") as file:
                file.seek(self.offset)
                body = file.read(self.length)
        except OSError:
            return None
        return body if zlib.crc32(body) == self.checksum and len(body) == self.length else None


def segment_path(directory: Path, number: int) -> Path:
    """The file of one segment."""
    return directory / f"{number:08}{_SUFFIX}"


def header(body: bytes, steps: int) -> tuple[bytes, int]:
    """What comes before a body, and the body's checksum in it."""
    checksum = zlib.crc32(body)
    return _HEADER.pack(_MAGIC, len(body), steps, checksum), checksum


def segments(directory: Path) -> list[Path]:
    """The segments of one process, oldest first."""
    return sorted(directory.glob(f"*{_SUFFIX}"))


def frames(segment: Path) -> Iterator[Frame]:
    """The requests in a segment, in order, up to the first that was not written to its end."""
    with segment.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            magic, length, steps, checksum = _HEADER.unpack(head)
            offset = file.tell()
            if magic != _MAGIC or offset + length > size:
                return
            yield Frame(segment, offset, length, steps, checksum)
            file.seek(length, os.SEEK_CUR)


def processes(spool: Path) -> list[Path]:
    """The directories of all processes that have segments, the oldest first."""
    if not spool.is_dir():
        return []
    found = [(_begun(path), path) for path in spool.iterdir() if segments(path)]
    return [path for _, path in sorted(found)]


def lock(directory: Path) -> int | None:
    """Claims the directory of a process; None while a live process has it.

    Returns a descriptor: the claim ends when it is closed, at the latest with the process.

    Raises:
        OSError: the directory cannot be written.
    """
    import fcntl  # only Unix has it

    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove(directory: Path) -> None:
    """Removes the directory of a process whose requests have all gone."""
    (directory / "lock").unlink(missing_ok=True)
    try:
        directory.rmdir()
    except OSError:  # something of somebody else's is in it
        return


def _begun(directory: Path) -> float:
    return min((path.stat().st_mtime for path in segments(directory)), default=0.0)
