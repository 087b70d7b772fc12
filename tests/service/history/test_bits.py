import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.history._bits import pack_integers, unpack_integers
from tests.service.steps import UNHURRIED

UINT64 = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300), st.just(2**63))


@UNHURRIED
@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(UINT64, min_size=n, max_size=n))))
def test_columns_come_back_as_they_were(rows: list[list[int]]) -> None:
    numbers = np.array([*rows, [7] * len(rows[0])] if rows else [[7]], np.uint64).T.copy()
    again = unpack_integers(memoryview(pack_integers(numbers)), *numbers.shape)
    assert again.dtype == np.uint64
    assert again.tolist() == numbers.tolist()


def test_a_constant_takes_nothing_but_its_head_and_a_bit_for_each_row() -> None:
    assert len(pack_integers(np.full((1, 4096), 2**60, np.uint64))) < 16 + 4096 / 8 + 16


@pytest.mark.parametrize("bits", [9, 17, 40])
def test_noise_takes_its_bits_and_hardly_more(bits: int) -> None:
    noise = np.random.default_rng(0).integers(0, 1 << bits, (4, 4096), np.uint64)
    size = len(pack_integers(noise + np.uint64(10**12)))
    assert size <= noise.size * bits / 8 * 1.01 + 64


def test_numbers_that_scatter_like_a_bell_take_less_than_their_range() -> None:
    random = np.random.default_rng(0).standard_normal((4, 4096))
    numbers = np.rint(random * 2**17).astype(np.int64).view(np.uint64) + np.uint64(2**40)
    spread = int(np.ptp(numbers)).bit_length()
    assert len(pack_integers(numbers)) < numbers.size * (spread - 0.5) / 8
