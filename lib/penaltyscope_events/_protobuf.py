"""Protobuf's bytes, and OTLP's attributes made of them.

Reference: opentelemetry/proto/logs/v1/logs.proto, common/v1/common.proto; the numbers beside the
tags are their field numbers.
"""

import struct
from functools import lru_cache

from penaltyscope_events.block import AttributeValue


def attribute(key: str, value: AttributeValue) -> bytes:
    """One entry of ``LogRecord.attributes`` (6)."""
    return message(0x32, key_value(key, value))


def key_value(key: str, value: AttributeValue) -> bytes:
    """A ``KeyValue``."""
    return _key(key) + message(0x12, _any_value(value))


def message(tag: int, body: bytes) -> bytes:
    """A field whose value has a length: a message, a string or bytes."""
    return head(tag, len(body)) + body


@lru_cache(maxsize=1024)
def head(tag: int, size: int) -> bytes:
    """What comes before the ``size`` bytes of such a value."""
    return _SHORT_VARINTS[tag] + varint(size)


def varint(number: int) -> bytes:
    """An integer; a negative one travels as two's complement in 64 bits."""
    if 0 <= number < 0x80:
        return _SHORT_VARINTS[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT_VARINTS = tuple(bytes((number,)) for number in range(0x80))


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return message(0x0A, key.encode())


def _any_value(value: AttributeValue) -> bytes:
    match value:
        case str():
            return message(0x0A, value.encode("utf-8", "replace"))
        case bool():  # before int, whose subclass it is
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + varint(value)
        case float():
            return struct.pack("<Bd", 0x21, value)
        case tuple():
            return message(0x2A, b"".join(message(0x0A, _any_value(item)) for item in value))
