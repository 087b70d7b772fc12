import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_service.history._prediction import contributions, exchange, totals
from tests.service.steps import ANY, INF, NAN, UNHURRIED

LONG, SHORT = np.array([False]), np.array([True])


def rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """To 24 digits as the recorder does it, with arithmetic in place of bits."""
    fraction, exponent = np.frexp(numbers)
    digits = np.trunc(fraction * 2**24 + np.copysign(0.5, fraction))
    again: NDArray[np.float64] = np.ldexp(digits, exponent - 24)
    return again


def are_short(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all numbers of a row have 24 digits at most."""
    short: NDArray[np.bool_] = (rounded(numbers) == numbers).all(axis=1)
    return short


def test_what_the_recorder_rounded_is_predicted_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    value = rounded(random.standard_normal((5, 4096)))
    weight = np.repeat([[0.1], [3.0], [1.5], [-1e-5], [1e-42]], 4096, axis=1)
    sent = rounded(weight * value)
    short = are_short(sent)
    assert short.all()
    assert contributions(weight, value, short).tobytes() == sent.tobytes()
    total = rounded(sum(sent, start=np.zeros(4096)))
    assert totals(sent, SHORT).tobytes() == total.tobytes()


def test_products_that_nobody_rounded_are_not_rounded_either() -> None:
    weight, value = np.random.default_rng(0).random((2, 3, 64))
    sent = weight * value
    sent[1] = rounded(sent[1])
    short = are_short(sent)
    assert short.tolist() == [False, True, False]
    assert contributions(weight, value, short).tobytes() == sent.tobytes()
    assert totals(sent, LONG).tobytes() == (sent[0] + sent[1] + sent[2]).tobytes()


def test_products_and_sums_overflow_without_a_warning() -> None:
    large = np.array([[1e300], [-1e300]])
    assert contributions(large, large, np.zeros(2, np.bool_)).tolist() == [[INF], [INF]]
    assert totals(np.array([[1e308], [1e308]]), LONG).tolist() == [[INF]]


@UNHURRIED
@given(st.sampled_from([NAN, -NAN, INF, -INF, 0.0]), st.sampled_from([NAN, -NAN, INF, 0.0]))
def test_no_prediction_has_a_nan_of_the_processors_making(weight: float, value: float) -> None:
    product = contributions(np.array([[weight]]), np.array([[value]]), LONG)
    if np.isnan(product).any():
        assert product.tobytes() == np.array([[value]]).tobytes()
    assert not np.isnan(totals(np.array([[weight], [value]]), LONG)).any()


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
