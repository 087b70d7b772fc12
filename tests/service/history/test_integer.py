import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.history._integer import decode_integers, encode_integers
from tests.service.steps import UNHURRIED

INT64 = st.integers(-(2**63), 2**63 - 1)


@UNHURRIED
@given(st.lists(st.one_of(INT64, st.integers(0, 300)), min_size=1, max_size=50))
def test_integers_come_back_as_they_were(numbers: list[int]) -> None:
    encoded = encode_integers(np.array(numbers, np.int64))
    assert decode_integers(memoryview(encoded), len(numbers)).tolist() == numbers


@pytest.mark.parametrize(
    ("numbers", "bytes_each"),
    [
        (np.arange(1000), 0),
        (np.full(1000, -7), 0),
        (np.arange(1000) * 10**9 + np.arange(1000) % 2 * 200, 2 / 8),
        (np.arange(1000) % 2 * 2**40, 5),
    ],
)
def test_differences_take_no_more_bytes_than_they_need(
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]], bytes_each: float
) -> None:
    # Of two different ones a bit says which it is; the low bits of the farther one are kept.
    assert len(encode_integers(numbers)) <= 17 + 999 * bytes_each + 100
