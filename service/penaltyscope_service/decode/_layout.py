"""Where the numbers of a start or stop record lie.

Records that a client writes one after the other differ in little but their numbers, and doubles
have a fixed width: whoever knows where the numbers of one record are can read the same columns out
of all others that are equal to it everywhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from penaltyscope_events import names as wire
from penaltyscope_service.decode._field import (
    BYTES,
    FIXED64,
    VARINT,
    Field,
    UnknownFormError,
    fields,
    read_field,
)

_SEVERITY, _ATTRIBUTES, _TRACE_ID, _SPAN_ID, _EVENT_NAME = 2, 6, 9, 10, 12
_TIME, _OBSERVED = 1, 11
_STRING_VALUE, _INT_VALUE, _DOUBLE_VALUE, _ARRAY_VALUE = 1, 3, 4, 5
_DOUBLE_ELEMENT: Final = b"\x0a\x09\x21"
DOUBLE_STRIDE: Final = 11
"""``values`` (1), length 9, ``double_value`` (4), 8 bytes."""

_EVERY_BIT, _NO_BIT, _CONTINUATION_BIT = 0xFF, 0x00, 0x80


class Span(NamedTuple):
    """Bytes of a record."""

    start: int
    stop: int

    def moved(self, offset: int) -> "Span":
        """The same bytes, counted from ``offset`` bytes earlier."""
        return Span(self.start + offset, self.stop + offset)


NOWHERE: Final = Span(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Of records that have the same event name and the same attributes of the same width."""

    event_name: str
    mask: bytes
    """As long as the record: the bits in which others must be equal to it. All others are bits of
    numbers, or of ids that nobody looks at."""
    times: tuple[Span, ...]
    """Where the record's own time, and the time at which it was observed, are."""
    doubles: dict[str, Span] = field(default_factory=dict)
    """By attribute."""
    integers: dict[str, Span] = field(default_factory=dict)
    double_arrays: dict[str, Span] = field(default_factory=dict)
    """All of their elements, 11 bytes each."""
    integer_arrays: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    """By attribute, the number of each element."""
    texts: dict[str, Span] = field(default_factory=dict)
    """By attribute; the mask says that they are the same."""


_LAID_OUT: Final = frozenset({wire.PIPELINE_START, wire.PIPELINE_STOP})


def lay_out(record: bytes) -> Layout | None:
    """The layout of a record like this one.

    Nothing for other events, and for records that are written in a way that this module does not
    know; protobuf may well read them.
    """
    try:
        layout = _Draft(record).finish()
    except UnknownFormError:
        return None
    return layout if layout.event_name in _LAID_OUT else None


class _Draft:
    """A layout that is being made."""

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._mask = bytearray((_EVERY_BIT,)) * len(record)
        self._doubles: dict[str, Span] = {}
        self._integers: dict[str, Span] = {}
        self._double_arrays: dict[str, Span] = {}
        self._integer_arrays: dict[str, tuple[Span, ...]] = {}
        self._texts: dict[str, Span] = {}
        self._keys: set[bytes] = set()

    def finish(self) -> Layout:
        """Raises UnknownFormError."""
        once: dict[int, Field] = {}
        for part in fields(self._record, 0, len(self._record)):
            if part.number == _ATTRIBUTES:
                self._attribute(part)
            elif part.number in once:  # the last one would count
                raise UnknownFormError
            else:
                once[part.number] = part
        if _EVENT_NAME not in once:
            raise UnknownFormError
        times = [_need(once[n], FIXED64) for n in (_TIME, _OBSERVED) if n in once]
        self._free(*times, *(_need(once[n], BYTES) for n in (_TRACE_ID, _SPAN_ID) if n in once))
        if _SEVERITY in once:
            self._free_varint(_need(once[_SEVERITY], VARINT))
        return Layout(
            event_name=self._text(once[_EVENT_NAME]),
            mask=bytes(self._mask),
            times=tuple(Span(time.start, time.stop) for time in times),
            doubles=self._doubles,
            integers=self._integers,
            double_arrays=self._double_arrays,
            integer_arrays=self._integer_arrays,
            texts=self._texts,
        )

    def _attribute(self, part: Field) -> None:
        """``key`` (1), then ``value`` (2), which is one of several kinds."""
        key, value = self._two(_need(part, BYTES))
        name = self._record[key.start : key.stop]
        if name in self._keys:  # the last one would count
            raise UnknownFormError
        self._keys.add(name)
        inner = self._only(value)
        place = _PLACES.get((inner.number, inner.wire_type))
        if place is not None:
            place(self, self._text(key), inner)

    def _place_double(self, key: str, part: Field) -> None:
        self._free(part)
        self._doubles[key] = Span(part.start, part.stop)

    def _place_integer(self, key: str, part: Field) -> None:
        self._free_varint(part)
        self._integers[key] = Span(part.start, part.stop)

    def _place_text(self, key: str, part: Field) -> None:
        self._texts[key] = Span(part.start, part.stop)

    def _place_array(self, key: str, part: Field) -> None:
        """Doubles throughout, or ints throughout; others are compared as they are."""
        record, (_, _, start, stop) = self._record, part
        count, rest = divmod(stop - start, DOUBLE_STRIDE)
        elements = range(start, stop, DOUBLE_STRIDE)
        if count and not rest and all(record.startswith(_DOUBLE_ELEMENT, e) for e in elements):
            for element in elements:
                self._mask[element + 3 : element + DOUBLE_STRIDE] = bytes(8)
            self._double_arrays[key] = Span(start, stop)
            return
        numbers = [self._only(_at(e, 1)) for e in fields(record, start, stop)]
        if all((n.number, n.wire_type) == (_INT_VALUE, VARINT) for n in numbers):
            for number in numbers:
                self._free_varint(number)
            self._integer_arrays[key] = tuple(Span(n.start, n.stop) for n in numbers)

    def _two(self, part: Field) -> tuple[Field, Field]:
        """The fields 1 and 2, both messages or strings, and nothing else."""
        first = _at(read_field(self._record, part.start, part.stop), 1)
        second = _at(read_field(self._record, first.stop, part.stop), 2)
        if second.stop != part.stop:
            raise UnknownFormError
        return _need(first, BYTES), _need(second, BYTES)

    def _only(self, part: Field) -> Field:
        """The only field of a message."""
        inner = read_field(self._record, _need(part, BYTES).start, part.stop)
        if inner.stop != part.stop:
            raise UnknownFormError
        return inner

    def _text(self, part: Field) -> str:
        try:
            return self._record[_need(part, BYTES).start : part.stop].decode()
        except UnicodeDecodeError:
            raise UnknownFormError from None

    def _free(self, *parts: Field) -> None:
        for part in parts:
            self._mask[part.start : part.stop] = bytes((_NO_BIT,)) * (part.stop - part.start)

    def _free_varint(self, part: Field) -> None:
        # Its width must stay the same.
        width = part.stop - part.start
        self._mask[part.start : part.stop] = bytes((_CONTINUATION_BIT,)) * width


_PLACES: Final[dict[tuple[int, int], Callable[[_Draft, str, Field], None]]] = {
    (_STRING_VALUE, BYTES): _Draft._place_text,  # noqa: SLF001  # a table of its own methods
    (_DOUBLE_VALUE, FIXED64): _Draft._place_double,  # noqa: SLF001
    (_INT_VALUE, VARINT): _Draft._place_integer,  # noqa: SLF001
    (_ARRAY_VALUE, BYTES): _Draft._place_array,  # noqa: SLF001
}


def _at(part: Field, number: int) -> Field:
    if part.number != number:
        raise UnknownFormError
    return part


def _need(part: Field, wire_type: int) -> Field:
    if part.wire_type != wire_type:
        raise UnknownFormError
    return part
