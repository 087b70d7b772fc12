"""Finds records that are laid out alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import types

from penaltyscope_events import names as wire
from penaltyscope_service.decode._attribute import MAX_NAME_LENGTH
from penaltyscope_service.decode._field import Field
from penaltyscope_service.decode._gather import Bytes
from penaltyscope_service.decode._layout import Span, lay_out
from penaltyscope_service.decode._plan import NAMES, Plan
from penaltyscope_service.decode._record import Record
from penaltyscope_service.kernel import BYTES, kernel

_MOST_BYTES: Final = 65_536
"""Longer patterns, of thousands of terms, are not worth their memory."""
_MOST_KNOWN_BYTES: Final = 2 * 1024**2
"""Of records; what is known of them takes several times as much."""
_MOST_MASKS: Final = 16
"""Of one length that are tried."""
_MOST_EXPECTED: Final = 4096
"""Lengths of what begins with a known pattern."""
_MOST_NAME_BYTES: Final = 4 * MAX_NAME_LENGTH
"""Names are kept beside what they name; a longer one is refused."""

ReadRecords = Callable[[bytes, int, int], Iterable[Record]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One record, or a start and a stop, that come again and again with other numbers."""

    mask: Bytes
    """The bits that all repetitions of one process have in common."""
    names: tuple[Span, ...]
    """Strings that are other ones in other processes: first those of the stop record."""
    starts: int
    """Start records in one repetition."""
    plan: Plan | None
    """Of its stop record, if it has one."""
    stride: int
    """Bytes of one repetition."""

    def count(self, data: Bytes, start: int, stop: int) -> int:
        """How often the pattern is repeated from ``start`` on, where it is known to be once."""
        if stop - start < 2 * self.stride:
            return 1
        return count_alike(data[start:stop], self.mask)


@kernel(types.int64(BYTES, BYTES))
def count_alike(data: Bytes, mask: Bytes) -> int:
    """How often the bytes that ``data`` begins with are repeated, but for bits outside the mask."""
    stride = len(mask)
    first = data[:stride]
    for start in range(stride, len(data) - stride + 1, stride):
        record = data[start : start + stride]
        different = np.uint8(0)
        for i in range(stride):
            different = np.uint8(different | (record[i] ^ first[i]) & mask[i])
        if different:
            return start // stride
    return len(data) // stride


def _masked(raw: Bytes, mask: Bytes) -> bytes:
    """The bytes but for bits outside the mask."""
    common = np.empty_like(mask)
    put_masked(raw, mask, common)
    return common.tobytes()


@kernel(types.void(BYTES, BYTES, types.uint8[::1]))
def put_masked(raw: Bytes, mask: Bytes, common: Bytes) -> None:
    """NumPy would let the interpreter's lock go for so many bytes."""
    for i in range(len(mask)):
        common[i] = raw[i] & mask[i]


class Patterns:
    """What was seen before: a cache, which changes nothing but how long things take."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Bytes, ...]] = {}
        self._known: dict[bytes, Pattern] = {}
        self._known_bytes = 0
        self._strides: dict[int, int] = {}

    def recall(self, data: Bytes, start: int, stop: int) -> Pattern | None:
        """The pattern that begins at a position, if it is what is expected of so many bytes."""
        stride = self._strides.get(stop - start)
        return None if stride is None else self.find(data, start, start + stride)

    def expect(self, pattern: Pattern, length: int) -> None:
        """That so many bytes will begin with the pattern again."""
        if len(self._strides) == _MOST_EXPECTED:
            self._strides = {}
        self._strides[length] = pattern.stride

    def find(self, data: Bytes, start: int, stop: int) -> Pattern | None:
        """The pattern of which the bytes between two positions are one repetition, if known."""
        masks = self._masks.get(stop - start)
        if masks is None:
            return None
        raw = data[start:stop]
        for mask in masks:
            pattern = self._known.get(_masked(raw, mask))
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
        names: list[Span] = []
        for head, layout, record in zip(
            heads, layouts, read_records(data, start, stop), strict=True
        ):
            if layout is None:
                return None
            offset = head.start - start
            mask[offset : head.stop - start] = layout.mask
            own = [layout.texts[n].moved(offset) for n in NAMES if n in layout.texts]
            if layout.event_name == wire.PIPELINE_STOP:
                # Of two different stops the order would be lost.
                more = plan is not None
                plan = Plan.of(layout, record.attributes, offset=offset)
                if more or plan is None:
                    return None
                names = own + names
            else:
                names += own
        starts = len(heads) - (plan is not None)
        if plan is None:  # nobody would see that a name is no text
            names = []
        if any(last - first > _MOST_NAME_BYTES for first, last in names):
            return None
        pattern = Pattern(
            np.frombuffer(bytes(mask), np.uint8), tuple(names), starts, plan, stop - start
        )
        self._remember(pattern, np.frombuffer(data, np.uint8, stop - start, start))
        return pattern

    def _remember(self, pattern: Pattern, raw: Bytes) -> None:
        length = pattern.stride
        of_all = pattern.mask.copy()  # in common with other processes
        for first, last in pattern.names:
            of_all[first:last] = 0
        if self._known_bytes + length > _MOST_KNOWN_BYTES:
            self._known, self._masks, self._known_bytes = {}, {}, 0
        masks = self._masks.get(length, ())
        if not any(np.array_equal(mask, of_all) for mask in masks):
            self._masks[length] = (of_all, *masks[: _MOST_MASKS - 1])
        self._known[_masked(raw, of_all)] = pattern
        self._known_bytes += length
