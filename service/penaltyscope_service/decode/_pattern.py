"""Finds records that are laid out alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penaltyscope_events import names as wire
from penaltyscope_service.decode._columns import Plan
from penaltyscope_service.decode._field import Field
from penaltyscope_service.decode._layout import lay_out
from penaltyscope_service.decode._record import Record

_MOST_BYTES: Final = 65_536
"""Longer patterns, of thousands of terms, are not worth their memory."""
_MOST_KNOWN_BYTES: Final = 16 * 1024**2
_MOST_MASKS: Final = 16
"""Of one length that are tried."""
_FIRST_ROWS: Final = 64
_GROWTH: Final = 4
"""So that looking at records that turn out to be different costs no more than reading them."""

Bytes = NDArray[np.uint8]
ReadRecords = Callable[[bytes, int, int], Iterable[Record]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One record, or a start and a stop, that come again and again with other numbers."""

    mask: Bytes
    masked: bytes
    """The bytes that all repetitions have in common."""
    starts: int
    """Start records in one repetition."""
    plan: Plan | None
    """Of its stop record, if it has one."""

    @property
    def stride(self) -> int:
        """Bytes of one repetition."""
        return len(self.masked)

    def count(self, data: bytes, start: int, stop: int) -> int:
        """How often the pattern is repeated from ``start`` on, where it is known to be once."""
        stride = self.stride
        most, found, rows = (stop - start) // stride, 1, _FIRST_ROWS
        while found < most:
            rows = min(rows, most - found)
            raw: Bytes = np.ndarray((rows, stride), np.uint8, data, start + found * stride)
            masked = raw & self.mask
            if masked.tobytes() != self.masked * rows:
                same = (masked == np.frombuffer(self.masked, np.uint8)).all(axis=1)
                return found + int(same.argmin())
            found += rows
            rows *= _GROWTH
        return found


class Patterns:
    """What was seen before: a cache, which changes nothing but how long things take."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Bytes, ...]] = {}
        self._known: dict[bytes, Pattern] = {}
        self._known_bytes = 0

    def find(self, data: bytes, start: int, stop: int) -> Pattern | None:
        """The pattern of which the bytes between two positions are one repetition, if known."""
        if stop - start > _MOST_BYTES:
            return None
        raw: Bytes = np.ndarray((stop - start,), np.uint8, data, start)
        for mask in self._masks.get(stop - start, ()):
            pattern = self._known.get((raw & mask).tobytes())
            if pattern is not None:
                return pattern
        return None

    def learn(
        self, data: bytes, start: int, heads: Sequence[Field], read_records: ReadRecords
    ) -> Pattern | None:
        """The pattern that begins at a position; nothing where there is none.

        Args:
            data: the whole request.
            start: where the first record's tag is.
            heads: where the one or two records themselves are.
            read_records: protobuf's own reader, for what lies between two positions.
        """
        stop = heads[-1].stop
        if stop - start > _MOST_BYTES:
            return None
        layouts = [lay_out(data[head.start : head.stop]) for head in heads]
        mask = bytearray(b"\xff") * (stop - start)
        plan: Plan | None = None
        for head, layout, record in zip(
            heads, layouts, read_records(data, start, stop), strict=True
        ):
            if layout is None:
                return None
            mask[head.start - start : head.stop - start] = layout.mask
            if layout.event_name == wire.PIPELINE_STOP:
                # Of two different stops the order would be lost.
                more = plan is not None
                plan = Plan.of(layout, record.attributes, offset=head.start - start)
                if more or plan is None:
                    return None
        raw: Bytes = np.ndarray((stop - start,), np.uint8, data, start)
        bits = np.frombuffer(bytes(mask), np.uint8)
        starts = len(heads) - (plan is not None)
        pattern = Pattern(bits, (raw & bits).tobytes(), starts, plan)
        self._remember(pattern)
        return pattern

    def _remember(self, pattern: Pattern) -> None:
        length = len(pattern.masked)
        if self._known_bytes + length > _MOST_KNOWN_BYTES:
            self._known, self._masks, self._known_bytes = {}, {}, 0
        masks = self._masks.get(length, ())
        if not any(np.array_equal(mask, pattern.mask) for mask in masks):
            self._masks[length] = (pattern.mask, *masks[: _MOST_MASKS - 1])
        self._known[pattern.masked] = pattern
        self._known_bytes += length
