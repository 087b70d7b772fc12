from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_events import names
from penaltyscope_service.decode._field import read_field, wrap
from penaltyscope_service.decode._pattern import Pattern, Patterns, count_alike
from penaltyscope_service.decode._record import Record
from tests.service.decode.messages import record
from tests.service.steps import UNHURRIED


@UNHURRIED
@given(st.data(), st.integers(1, 40))
def test_repetitions_are_counted_up_to_the_first_bit_that_differs(
    data: st.DataObject, stride: int
) -> None:
    mask = data.draw(st.binary(min_size=stride, max_size=stride))
    first = data.draw(st.binary(min_size=stride, max_size=stride))
    free = ~np.frombuffer(mask, np.uint8)
    rows = []
    for _ in range(data.draw(st.integers(0, 5))):
        noise = data.draw(st.binary(min_size=stride, max_size=stride))
        rows.append(np.frombuffer(first, np.uint8) ^ np.frombuffer(noise, np.uint8) & free)
        if data.draw(st.integers(0, 3)) == 0:
            rows[-1][data.draw(st.integers(0, stride - 1))] ^= 1 << data.draw(st.integers(0, 7))
    tail = data.draw(st.binary(max_size=stride - 1))
    body = first + b"".join(row.tobytes() for row in rows) + tail

    counted = count_alike(np.frombuffer(body, np.uint8), np.frombuffer(mask, np.uint8))

    assert counted == _count(body, mask)


def _count(body: bytes, mask: bytes) -> int:
    stride, found = len(mask), 1
    for start in range(stride, len(body) - stride + 1, stride):
        pairs = zip(body[:stride], body[start : start + stride], mask, strict=True)
        if any((a ^ b) & m for a, b, m in pairs):
            break
        found += 1
    return found


def starts(*steps: int) -> bytes:
    """Start records, as fields of their scope."""
    return b"".join(
        wrap(2, record(names.PIPELINE_START, {names.STEP: step}).SerializeToString())
        for step in steps
    )


def read_starts(_body: bytes, _start: int, _stop: int) -> Sequence[Record]:
    """What protobuf says of one."""
    return [Record(names.PIPELINE_START, 0, error=False, attributes={})]


def learn(patterns: Patterns, body: bytes) -> Pattern:
    """The pattern of the body's first start."""
    head = read_field(body, 0, len(body))
    pattern = patterns.learn(body, 0, [head], read_starts)
    assert pattern is not None
    return pattern


def test_a_pattern_is_found_where_only_numbers_differ() -> None:
    patterns = Patterns()
    pattern = learn(patterns, starts(1))

    assert patterns.find(as_array(starts(99)), 0, pattern.stride) is pattern
    assert patterns.find(as_array(b"-" + starts(99)), 1, 1 + pattern.stride) is pattern
    assert patterns.find(as_array(starts(300)), 0, len(starts(300))) is None


def test_a_pattern_is_recalled_by_the_length_of_all_that_it_began() -> None:
    patterns = Patterns()
    pattern = learn(patterns, starts(1))
    three = as_array(starts(1, 2, 3))
    assert patterns.recall(three, 0, len(three)) is None

    patterns.expect(pattern, len(three))

    assert patterns.recall(three, 0, len(three)) is pattern
    assert patterns.recall(three, 0, 2 * pattern.stride) is None
    assert patterns.recall(np.zeros_like(three), 0, len(three)) is None


def test_of_too_many_lengths_the_old_ones_are_forgotten() -> None:
    patterns = Patterns()
    pattern = learn(patterns, starts(1))
    body = as_array(starts(*[1] * 5000))
    for count in range(1, 5001):
        patterns.expect(pattern, count * pattern.stride)

    assert patterns.recall(body, 0, pattern.stride) is None
    assert patterns.recall(body, 0, len(body)) is pattern


def as_array(body: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8)
