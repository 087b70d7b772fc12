"""Where the fields of a protobuf message lie, without making anything of them.

Reference: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; groups are not known here."""

_MOST_VARINT_BYTES: Final = 9
"""A tenth byte would be the 64th bit: counts and lengths never have it."""


class UnknownFormError(ValueError):
    """Bytes that protobuf itself has to judge."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    start: int
    """Of its content: after the tag, and after the length where there is one."""
    stop: int


def fields(data: bytes, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message between two positions.

    Raises:
        UnknownFormError: if it is none, or uses what only protobuf's own reader understands.
    """
    while start < stop:
        field = read_field(data, start, stop)
        yield field
        start = field.stop


def read_field(data: bytes, start: int, stop: int) -> Field:
    """The field that begins at a position; raises as :func:`fields` does."""
    tag, start = read_varint(data, start, stop)
    wire_type = tag & 7
    if wire_type == BYTES:
        length, start = read_varint(data, start, stop)
        end = start + length
    elif wire_type == VARINT:
        end = read_varint(data, start, stop)[1]
    elif wire_type == FIXED64:
        end = start + 8
    elif wire_type == FIXED32:
        end = start + 4
    else:
        raise UnknownFormError
    if end > stop or tag < 1 << 3:
        raise UnknownFormError
    return Field(tag >> 3, wire_type, start, end)


def read_varint(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """A varint of at most nine bytes, and where it ends; raises as :func:`fields` does."""
    if start < stop and data[start] < 0x80:
        return data[start], start + 1
    number = shift = 0
    for position in range(start, min(stop, start + _MOST_VARINT_BYTES)):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position + 1
        shift += 7
    raise UnknownFormError


def expect(field: Field, number: int) -> Field:
    """The field, if it is a string, bytes or message of that number; raises as the others do."""
    if field.number != number or field.wire_type != BYTES:
        raise UnknownFormError
    return field


def wrap(number: int, content: bytes) -> bytes:
    """A message in a field of another one."""
    head = bytearray((number << 3 | BYTES,))
    length = len(content)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + content
