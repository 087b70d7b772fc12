"""Inputs that are almost right: valid requests, changed in a few places."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Final

import orjson

_INTERESTING: Final = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80" * 10 + b"\x01",  # a varint that is too long
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # the longest that is not
    b"\xff\xff\xff\xff\x0f",  # a length of 4 GiB
    b"\x0b\x0c",  # a group, begun and ended
    b"\xed\xa0\x80",  # a surrogate in UTF-8
    b"\x00\x00\x00\x00\x00\x00\xf0\x7f",  # infinity
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",  # NaN
)
_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 0.5, -0.0, 1e308, 2**53, 2**63 - 1, 2**63, 2**64 - 1),
    *("", "NaN", "Infinity", "-Infinity", "1e999", "-0", "9" * 30, "\x00", "\U0010ffff", "\ud7ff"),
    *("0x10", " 1", "\u0661", "true", "null", [], {}, [[]], [None], {"": {}}, [[[[[[{}]]]]]]),
)
_KEYS: Final = (
    *("resourceLogs", "scopeLogs", "logRecords", "attributes", "key", "value", "eventName"),
    *(
        "doubleValue",
        "intValue",
        "stringValue",
        "arrayValue",
        "values",
        "kvlistValue",
        "bytesValue",
    ),
    *("resourceSpans", "scopeSpans", "spans", "resourceMetrics", "metrics", "sum", "dataPoints"),
)

Mutate = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutate(chance: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    """The body with 1 to 8 changes to its bytes."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        chance.choice(_MUTATIONS)(chance, changed, corpus)
    return bytes(changed)


def mutate_json(chance: random.Random, body: bytes) -> bytes:
    """The document with 1 to 4 changes to its values and keys."""
    document = orjson.loads(body)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(chance, document)
    return orjson.dumps(document)


def _change(chance: random.Random, document: Any) -> None:  # noqa: ANN401  # any JSON
    """Walks down at random and changes something on the way."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return
        key = chance.choice(list(keys))
        child = node[key]
        if isinstance(child, dict | list) and child and chance.random() < 0.85:
            node = child
            continue
        match chance.randrange(4):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[chance.choice(_KEYS)] = node.pop(key)
            case 2 if isinstance(node, list):
                node.extend([child] * chance.randrange(4))
            case _:
                node[key] = deepcopy(chance.choice(_VALUES))
        return


def _flip(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    if body:
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)


def _overwrite(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    at = chance.randrange(len(body) + 1)
    piece = chance.choice(_INTERESTING)
    body[at : at + len(piece)] = piece


def _insert(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    at = chance.randrange(len(body) + 1)
    body[at:at] = chance.randbytes(1 + chance.randrange(16))


def _delete(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    at = chance.randrange(len(body) + 1)
    del body[at : at + 1 + chance.randrange(32)]


def _repeat(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    at = chance.randrange(len(body) + 1)
    body[at:at] = body[at : at + chance.randrange(64)]


def _cut(chance: random.Random, body: bytearray, _corpus: Sequence[bytes]) -> None:
    del body[chance.randrange(len(body) + 1) :]


def _splice(chance: random.Random, body: bytearray, corpus: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    start = chance.randrange(len(other) + 1)
    body[chance.randrange(len(body) + 1) :] = other[start:]


_MUTATIONS: Final[tuple[Mutate, ...]] = (
    *(_flip, _flip, _overwrite, _insert, _delete, _repeat, _cut, _splice),
)
