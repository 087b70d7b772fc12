"""Records that are laid out alike, read as columns straight from their bytes."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from penaltyscope_events import StepBlock
from penaltyscope_service.decode._attribute import InvalidRecordError
from penaltyscope_service.decode._gather import Bytes, gather
from penaltyscope_service.decode._pattern import Pattern, ReadRecords
from penaltyscope_service.decode._plan import NAMES, Plan
from penaltyscope_service.decode._record import Record
from penaltyscope_service.decode._step import ScopeTerms, StepKey, read_key

_MOST_CACHED_TERMS: Final = 64


class Columns(NamedTuple):
    """Start and stop records that are laid out alike."""

    body: bytes
    data: Bytes
    """The same as numbers."""
    start: int
    """Where the first repetition of the pattern begins."""
    repeats: int
    pattern: Pattern
    read_records: ReadRecords

    def records(self) -> Iterable[Record]:
        """All of them one by one, in order."""
        stop = self.start + self.repeats * self.pattern.stride
        return self.read_records(self.body, self.start, stop)

    def read(
        self, plan: Plan, scope: ScopeTerms, received_ns: int
    ) -> tuple[StepKey, StepBlock] | None:
        """The steps of all stop records; nothing where one of them may have to be refused.

        Args:
            plan: of the pattern.
            scope: of the records.
            received_ns: the time of records that carry none.
        """
        body, data, start, rows, pattern, _ = self
        read_key = _read_key if plan.terms <= _MOST_CACHED_TERMS else _read_key.__wrapped__
        texts = [body[start + first : start + last] for first, last in pattern.names]
        try:
            key = read_key(plan, scope, *texts)
        except (InvalidRecordError, UnicodeDecodeError):
            return None
        terms, places, first, stride = plan.terms, plan.places, start + plan.offset, pattern.stride
        integers = np.empty((3, rows), np.int64)
        scalars = np.empty((4, rows))
        has_base = np.empty(rows, np.bool_)
        arrays = np.empty((4, rows, terms))
        flags = np.empty((rows, terms), np.int32)
        # The repetitions lie within the body, a record within each, and its numbers within it.
        if not gather(
            data, first, stride, places, received_ns, integers, scalars, has_base, arrays, flags
        ):
            return None
        # To take an array apart in one go costs half as much again: it ends in an IndexError.
        steps = StepBlock(
            pipeline=key.pipeline,
            incarnation=key.incarnation,
            terms=key.terms,
            step=integers[0],
            seq=integers[1],
            stop_ns=integers[2],
            duration=scalars[0],
            base=scalars[1],
            has_base=has_base,
            total=scalars[2],
            total_gradient_norm=scalars[3],
            value=arrays[0],
            weight=arrays[1],
            contribution=arrays[2],
            gradient_norm=arrays[3],
            flags=flags,
        )
        return key, steps


@lru_cache(maxsize=1024)
def _read_key(
    plan: Plan, scope: ScopeTerms, pipeline: bytes, incarnation: bytes, *others: bytes
) -> StepKey:
    """What all stop records of a pattern have in common.

    Raises:
        InvalidRecordError: if each of them has to be refused.
        UnicodeDecodeError: if a name is no text, which makes the request none either.
    """
    own = dict(zip(NAMES, (pipeline.decode(), incarnation.decode()), strict=True))
    for text in others:
        text.decode()
    key = read_key(plan.attributes | own, scope)
    if len(key.terms) != plan.terms:
        raise InvalidRecordError("wrong_length", "there must be as many numbers as terms.")
    return key
