"""Typed access to the fields of a message in OTLP/JSON.

``null`` means what absence means: the field's default. Unknown fields are never looked at.
Reference: OTLP specification, "JSON Protobuf Encoding"; ProtoJSON for 64-bit and float numbers.
"""

import re
import reprlib
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, TypeVar

import orjson

from penaltyscope_service.decode._record import InvalidRequestError

T = TypeVar("T")
Message = dict[str, Any]

_NONFINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_EXACT: Final = 2.0**53
"""Above it a float does not say which integer was meant."""


def parse(body: bytes) -> Message:
    """The whole document.

    Raises:
        InvalidRequestError: if it is not a JSON object; so do all functions here for wrong types.
    """
    try:
        return message("body", orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"body must be JSON: {error}.") from error


def child(owner: Message, name: str) -> Message:
    """A message field."""
    value = owner.get(name)
    return {} if value is None else message(name, value)


def messages(owner: Message, name: str) -> list[Message]:
    """A repeated message field."""
    values = owner.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise _wrong(name, "a list", values)
    for value in values:
        message(name, value)
    return values


def message(name: str, value: object) -> Message:
    """A JSON object."""
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def optional(owner: Message, name: str, read: Callable[[str, object], T], default: T) -> T:
    """A scalar field, or its default."""
    value = owner.get(name)
    return default if value is None else read(name, value)


def string(name: str, value: object) -> str:
    """A string field."""
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def boolean(name: str, value: object) -> bool:
    """A bool field."""
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def double(name: str, value: object) -> float:
    """A double field: a number, a number in a string, or the name of a non-finite one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value in _NONFINITE:
        return _NONFINITE[value]
    if isinstance(value, str) and _NUMBER.fullmatch(value) and isfinite(float(value)):
        return float(value)
    raise _wrong(name, 'a number, "NaN", "Infinity" or "-Infinity"', value)


def int64(name: str, value: object) -> int:
    """An int64 field: a whole number, or one in a string."""
    return _integer(name, value, -(2**63), 2**63 - 1)


def uint64(name: str, value: object) -> int:
    """A uint64 or fixed64 field."""
    return _integer(name, value, 0, 2**64 - 1)


def _integer(name: str, value: object, low: int, high: int) -> int:
    number = _whole(value)
    if number is None or not low <= number <= high:
        raise _wrong(name, f"an integer from {low} to {high}", value)
    return number


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


def _wrong(name: str, expected: str, value: object) -> InvalidRequestError:
    return InvalidRequestError(f"{name} must be {expected}, got {reprlib.repr(value)}.")
