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
    binary = st.binary(min_size=stride, max_size=stride)
    mask, first = np.frombuffer(data.draw(binary), np.uint8), data.draw(binary)
    common = mask & np.frombuffer(data.draw(binary), np.uint8)
    rows = [np.frombuffer(first, np.uint8)]
    for _ in range(data.draw(st.integers(0, 5))):
        noise = np.frombuffer(data.draw(binary), np.uint8)
        rows.append(rows[0] ^ noise & ~mask)
        if data.draw(st.integers(0, 3)) == 0:
            rows[-1][data.draw(st.integers(0, stride - 1))] ^= 1 << data.draw(st.integers(0, 7))
    tail = data.draw(st.binary(max_size=stride - 1))
    body = as_array(b"".join(row.tobytes() for row in rows) + tail)

    assert count_alike(body, rows[0] & common, common, mask) == _count(body, mask)


def _count(body: NDArray[np.uint8], mask: NDArray[np.uint8]) -> int:
    stride, found = len(mask), 1
    for start in range(stride, len(body) - stride + 1, stride):
        if ((body[:stride] ^ body[start : start + stride]) & mask).any():
            break
        found += 1
    return found


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=24))
def test_nothing_is_repeated_where_the_first_bytes_are_others(mask: bytes, body: bytes) -> None:
    common, data = as_array(mask), as_array(body)
    example = data[:8] & common

    assert count_alike(data, example, common, common) >= 1
    assert count_alike(data[:7], example, common, common) == 0
    for bit in range(64):
        odd = np.unpackbits(example)
        odd[bit] ^= 1
        assert count_alike(data, np.packbits(odd), common, common) == 0


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


def test_a_pattern_is_counted_where_only_numbers_differ() -> None:
    pattern = learn(Patterns(), starts(1))
    three = as_array(starts(5, 6, 7))

    assert pattern.count(three, 0, len(three)) == 3
    assert pattern.count(three, pattern.stride, len(three)) == 2
    assert pattern.count(three, 0, pattern.stride - 1) == 0
    assert pattern.count(np.zeros_like(three), 0, len(three)) == 0


def test_a_pattern_is_recalled_by_the_length_of_all_that_it_began() -> None:
    patterns = Patterns()
    pattern = learn(patterns, starts(1))
    assert patterns.recall(100) is None

    patterns.expect(pattern, 100)

    assert patterns.recall(100) is pattern
    assert patterns.recall(101) is None


def test_of_too_many_lengths_the_old_ones_are_forgotten() -> None:
    patterns = Patterns()
    pattern = learn(patterns, starts(1))
    for length in range(1, 5001):
        patterns.expect(pattern, length)

    assert patterns.recall(1) is None
    assert patterns.recall(5000) is pattern


def as_array(body: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(body, np.uint8)
