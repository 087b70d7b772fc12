import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.history._planes import pack_planes, unpack_planes
from tests.service.steps import UNHURRIED


@UNHURRIED
@given(
    bits=st.lists(st.integers(0, 64), min_size=1, max_size=5),
    rows=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 200])),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_low_bits_of_chosen_columns_come_back(
    bits: list[int], rows: int, seed: int, data: st.DataObject
) -> None:
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(bits), max_size=len(bits))))
    widths = np.array(bits, np.uint64)
    numbers = np.random.default_rng(seed).integers(0, 2**64, (len(bits), rows), np.uint64)
    low = [[x & (1 << b) - 1 for x in row] for row, b in zip(numbers.tolist(), bits, strict=True)]

    packed = pack_planes(numbers, widths)

    assert len(packed) == sum(bits) * -(-rows // 8)
    again = unpack_planes(packed, widths, rows, chosen)
    assert again.dtype == np.uint64
    assert again.tolist() == [row for row, there in zip(low, chosen, strict=True) if there]


def test_the_lowest_bit_of_eight_rows_is_the_first_octet() -> None:
    numbers = np.array([[1, 2, 1, 0, 0, 0, 0, 3]], np.uint64)
    assert pack_planes(numbers, np.array([2], np.uint64)) == bytes((0b1000_0101, 0b1000_0010))
