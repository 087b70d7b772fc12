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
    common: Bytes
    """Of these, the bits that it has in common with other processes."""
    example: Bytes
    """One repetition, of which only those bits are left."""
    names: tuple[Span, ...]
    """Strings that are other ones in other processes: first those of the stop record."""
    starts: int
    """Start records in one repetition."""
    plan: Plan | None
    """Of its stop record, if it has one."""
    stride: int
    """Bytes of one repetition."""

    def count(self, data: Bytes, start: int, stop: int) -> int:
        """How often the pattern is repeated from ``start`` on, perhaps not once."""
        return count_alike(data[start:stop], self.example, self.common, self.mask)


@kernel(types.int64(*(BYTES,) * 4))
def count_alike(data: Bytes, example: Bytes, common: Bytes, mask: Bytes) -> int:
    """How often the bytes that ``data`` begins with are repeated, but for bits outside ``mask``.

    None at all where these are not ``example``, but for bits outside ``common``; the last three are
    as long as each other.
    """
    stride = len(mask)
    if len(data) < stride:
        return 0
    first, different = data[:stride], np.uint8(0)
    for i in range(stride):
        different = np.uint8(different | first[i] & common[i] ^ example[i])
    if different:
        return 0
    for start in range(stride, len(data) - stride + 1, stride):
        record = data[start : start + stride]
        for i in range(stride):
            different = np.uint8(different | (record[i] ^ first[i]) & mask[i])
        if different:
            return start // stride
    return len(data) // stride


class Patterns:
    """What was seen before: a cache, which changes nothing but how long things take."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Bytes, ...]] = {}
        self._known: dict[bytes, Pattern] = {}
        self._known_bytes = 0
        self._expected: dict[int, Pattern] = {}

    def recall(self, length: int) -> Pattern | None:
        """The pattern with which so many bytes may begin: the one with which others did."""
        return self._expected.get(length)

    def expect(self, pattern: Pattern, length: int) -> None:
        """That so many bytes will begin with the pattern again."""
        if len(self._expected) == _MOST_EXPECTED:
            self._expected = {}
        self._expected[length] = pattern

    def find(self, data: Bytes, start: int, stop: int) -> Pattern | None:
        """The pattern of which the bytes between two positions are one repetition, if known."""
        masks = self._masks.get(stop - start)
        if masks is None:
            return None
        raw = data[start:stop]
        for mask in masks:
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
        same = np.frombuffer(bytes(mask), np.uint8)
        raw = np.frombuffer(data, np.uint8, stop - start, start)
        return self._remember(raw, same, tuple(names), starts, plan)

    def _remember(
        self, raw: Bytes, mask: Bytes, names: tuple[Span, ...], starts: int, plan: Plan | None
    ) -> Pattern:
        stride = len(mask)
        common = mask.copy()
        for first, last in names:
            common[first:last] = 0
        if self._known_bytes + stride > _MOST_KNOWN_BYTES:
            self._known, self._masks, self._expected, self._known_bytes = {}, {}, {}, 0
        masks = self._masks.get(stride, ())
        if not any(np.array_equal(other, common) for other in masks):
            self._masks[stride] = (common, *masks[: _MOST_MASKS - 1])
        left = (raw & common).tobytes()
        example = np.frombuffer(left, np.uint8)
        pattern = self._known[left] = Pattern(mask, common, example, names, starts, plan, stride)
        self._known_bytes += stride
        return pattern
