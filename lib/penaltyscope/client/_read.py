"""From JSON to an answer, by the types of its fields.

A service that is newer than this client may say more than the client knows: that is passed over.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from penaltyscope.client._errors import AnswerError

T = TypeVar("T")

_Reader = Callable[[Any], Any]


def read(answer: type[T], data: object) -> T:
    """Makes an answer of decoded JSON.

    Raises:
        AnswerError: it is not such an answer.
    """
    try:
        kind: Any = answer
        made: T = _reader(kind)(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise AnswerError(f"the answer must be a {answer.__name__}, got {problem}.") from error
    return made


@cache
def _reader(kind: Any) -> _Reader:  # noqa: ANN401  # any type, a union or a generic one
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is float:  # also the strings "NaN", "Infinity" and "-Infinity"
        return float
    if kind in (int, str) or origin is Literal:
        return _same
    if origin is UnionType:
        (own,) = (argument for argument in arguments if argument is not NoneType)
        return _optional(_reader(own))
    if origin is tuple:
        return _items(_reader(arguments[0]))
    if origin is Mapping:
        return dict
    assert is_dataclass(kind)
    return _object(kind)


def _same(data: Any) -> Any:  # noqa: ANN401  # JSON
    return data


def _optional(reader: _Reader) -> _Reader:
    return lambda data: None if data is None else reader(data)


def _items(reader: _Reader) -> _Reader:
    if reader is _same:
        return tuple
    return lambda data: tuple(map(reader, data))


def _object(kind: Any) -> _Reader:  # noqa: ANN401  # a dataclass
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}

    def make(data: Any) -> Any:  # noqa: ANN401  # JSON
        return kind(**{name: reader(data[name]) for name, reader in readers.items()})

    return make
