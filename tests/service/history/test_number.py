import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penaltyscope_service.history._number import exchange
from tests.service.steps import ANY, UNHURRIED


@UNHURRIED
@given(st.lists(ANY, min_size=1))
def test_integers_become_the_same_doubles_again(numbers: list[float]) -> None:
    bits = np.array(numbers).view(np.int64)
    assert exchange(exchange(bits)).tolist() == bits.tolist()


@UNHURRIED
@given(st.lists(st.floats(allow_nan=False).filter(lambda x: x != 0), min_size=1))
def test_integers_are_in_the_order_of_the_doubles(numbers: list[float]) -> None:
    ascending = np.sort(np.array([*numbers, 0.0]))
    assert (np.diff(exchange(ascending.view(np.int64)).astype(object)) >= 0).all()


@UNHURRIED
@given(st.floats(width=32, allow_nan=False))
def test_the_zeros_that_end_a_float32_end_its_integer(number: float) -> None:
    assert exchange(np.array([number]).view(np.int64))[0] % 2**29 == 0


@UNHURRIED
@given(st.lists(ANY, min_size=1))
def test_integers_may_take_the_place_of_the_bits(numbers: list[float]) -> None:
    bits = np.array([numbers]).view(np.int64)
    expected = exchange(bits).tolist()
    assert exchange(bits, out=bits) is bits
    assert bits.tolist() == expected
