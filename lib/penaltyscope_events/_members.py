"""The members of one line of JSON, each checked when it is read."""

from collections.abc import Mapping
from typing import Final

from penaltyscope_events.block import AttributeValue
from penaltyscope_events.jsonl import DOUBLE, NONFINITE

_INT64: Final = range(-(2**63), 2**63)
_FLAGS: Final = range(2**31)


class InvalidLineError(ValueError):
    """A line that is not of this format; says why."""


class Members:
    """A JSON object. Each method raises ``InvalidLineError`` if a member is missing or wrong."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def __contains__(self, key: str) -> bool:
        """Whether the member is there and not null."""
        return self._members.get(key) is not None

    def text(self, key: str, default: str | None = None) -> str:
        """A string; not empty where it has no default."""
        value = self._members.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise _wrong(key, "a non-empty string" if default is None else "a string", value)
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer of 64 bits."""
        return _integer(key, self._members.get(key, default), _INT64)

    def truth(self, key: str) -> bool:
        """A boolean; false where it is not there."""
        value = self._members.get(key, False)
        if not isinstance(value, bool):
            raise _wrong(key, "a boolean", value)
        return value

    def double(self, key: str) -> float:
        """A number, or the word for one that is not finite."""
        return _double(key, self._members.get(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Strings."""
        values = _list(key, self._members.get(key), None)
        if not all(isinstance(value, str) for value in values):
            raise _wrong(key, "an array of strings", values)
        return tuple(str(value) for value in values)

    def doubles(self, key: str, length: int) -> list[float]:
        """So many numbers, or words for them."""
        return [_double(key, value) for value in _list(key, self._members.get(key), length)]

    def flags(self, key: str, length: int) -> list[int]:
        """So many sets of bits."""
        return [
            _integer(key, value, _FLAGS) for value in _list(key, self._members.get(key), length)
        ]

    def tags(self, key: str) -> dict[str, str]:
        """An object of strings; empty where it is not there."""
        value = self._members.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(tag, str) for tag in value.values()):
            raise _wrong(key, "an object of strings", value)
        return value

    def attributes(self, key: str) -> dict[str, AttributeValue]:
        """An object of attributes."""
        value = self._members.get(key)
        if not isinstance(value, dict):
            raise _wrong(key, "an object", value)
        return {name: _attribute(name, item) for name, item in value.items()}


def _integer(key: str, value: object, allowed: range) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise _wrong(key, f"an integer from {allowed.start} to {allowed.stop - 1}", value)
    return value


def _double(key: str, value: object) -> float:
    if isinstance(value, str) and value in NONFINITE:
        return NONFINITE[value]
    if isinstance(value, float):
        return value
    return float(_integer(key, value, _INT64))


def _list(key: str, value: object, length: int | None) -> list[object]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise _wrong(key, "an array" if length is None else f"an array of {length}", value)
    return value


def _attribute(key: str, value: object) -> AttributeValue:
    if not isinstance(value, list):
        return _scalar(key, value)
    items = [_scalar(key, item) for item in value]
    strings = tuple(item for item in items if isinstance(item, str))
    integers = tuple(item for item in items if type(item) is int)
    doubles = tuple(item for item in items if isinstance(item, float))
    for uniform in (strings, integers, doubles):
        if len(uniform) == len(items):
            return uniform
    raise _wrong(key, "an array of one type", value)


def _scalar(key: str, value: object) -> str | bool | int | float:
    if isinstance(value, dict) and value.keys() == {DOUBLE}:
        return _double(key, value[DOUBLE])
    if isinstance(value, str | bool | float):
        return value
    return _integer(key, value, _INT64)


def _wrong(key: str, expected: str, value: object) -> InvalidLineError:
    return InvalidLineError(f"{key} must be {expected}, got {value!r:.100}.")
