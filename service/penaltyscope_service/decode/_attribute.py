"""Typed access to the attributes of a record."""

import reprlib
from typing import Final, Literal, get_args

from penaltyscope_service.decode._record import Attributes, Value

Reason = Literal[
    "missing_run_id",
    "missing_attribute",
    "wrong_type",
    "wrong_length",
    "invalid_name",
    "invalid_value",
]
"""Why a record was refused: the values of a metric label."""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

MAX_NAME_LENGTH: Final = 256
MAX_COUNT: Final = 2**62
"""Larger numbers are no count of anything, and would leave no room for arithmetic."""


class InvalidRecordError(ValueError):
    """A record of this wire format that cannot be kept."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def require(attributes: Attributes, key: str) -> Value:
    """The attribute's value, whatever its type.

    Raises:
        InvalidRecordError: if it is missing.
    """
    if key not in attributes:
        raise InvalidRecordError("missing_attribute", f"{key} is missing.")
    return attributes[key]


def text(attributes: Attributes, key: str) -> str:
    """A string of any length."""
    value = require(attributes, key)
    if not isinstance(value, str):
        raise _wrong_type(key, "a string", value)
    return value


def name(attributes: Attributes, key: str) -> str:
    """A string that names something: 1 to 256 characters."""
    value = text(attributes, key)
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise _invalid_name(key, value)
    return value


def names(attributes: Attributes, key: str, *, reserved: str) -> tuple[str, ...]:
    """At least one name, all different and none of them reserved."""
    values = require(attributes, key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _wrong_type(key, "strings", values)
    if not values:
        raise InvalidRecordError("wrong_length", f"{key} must have at least one element, got none.")
    seen: dict[str, None] = {}
    for value in map(str, values):
        if not 1 <= len(value) <= MAX_NAME_LENGTH:
            raise _invalid_name(key, value)
        if value in seen or value == reserved:
            problem = "be unique" if value in seen else "not be a reserved name"
            raise InvalidRecordError("invalid_name", f"{key} must {problem}, got {value!r}.")
        seen[value] = None
    return tuple(seen)


def integer(attributes: Attributes, key: str) -> int:
    """An int that counts something: 0 to :data:`MAX_COUNT`."""
    value = require(attributes, key)
    if type(value) is not int:  # a bool is not a number here
        raise _wrong_type(key, "an int", value)
    if not 0 <= value <= MAX_COUNT:
        raise InvalidRecordError(
            "invalid_value", f"{key} must be from 0 to {MAX_COUNT}, got {value}."
        )
    return value


def number(attributes: Attributes, key: str) -> float:
    """A double, or an int in its place."""
    value = require(attributes, key)
    if type(value) is not float and type(value) is not int:
        raise _wrong_type(key, "a double", value)
    return float(value)


def numbers(attributes: Attributes, key: str, length: int) -> list[float]:
    """As many doubles as there are terms; ints may stand in their place."""
    return _array(attributes, key, length, {float, int}, "doubles")


def integers(attributes: Attributes, key: str, length: int) -> list[int]:
    """As many ints as there are terms."""
    return [int(value) for value in _array(attributes, key, length, {int}, "ints")]


def _array(
    attributes: Attributes, key: str, length: int, types: set[type], expected: str
) -> list[float]:
    values = require(attributes, key)
    if not isinstance(values, list) or not set(map(type, values)) <= types:
        raise _wrong_type(key, expected, values)
    if len(values) != length:
        raise InvalidRecordError(
            "wrong_length",
            f"{key} must have {length} elements, one per term, got {len(values)}.",
        )
    return values  # type: ignore[return-value]  # the types were compared one by one


def _wrong_type(key: str, expected: str, value: Value) -> InvalidRecordError:
    return InvalidRecordError("wrong_type", f"{key} must be {expected}, got {reprlib.repr(value)}.")


def _invalid_name(key: str, value: str) -> InvalidRecordError:
    return InvalidRecordError(
        "invalid_name",
        f"{key} must have 1 to {MAX_NAME_LENGTH} characters, got {len(value)}.",
    )
