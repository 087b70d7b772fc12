import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penaltyscope_service.history._number import exchange
from penaltyscope_service.history._prediction import (
    are_short,
    as_integers,
    contributions,
    totals,
)
from tests.service.steps import INF, NAN, UNHURRIED


def rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """To 24 digits as the recorder does it, with arithmetic in place of bits."""
    fraction, exponent = np.frexp(numbers)
    digits = np.trunc(fraction * 2**24 + np.copysign(0.5, fraction))
    again: NDArray[np.float64] = np.ldexp(digits, exponent - 24)
    return again


def test_what_the_recorder_rounded_is_predicted_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    value = rounded(random.standard_normal((5, 4096)))
    weight = np.repeat([[0.1], [3.0], [1.5], [-1e-5], [1e-42]], 4096, axis=1)
    sent = exchange(rounded(weight * value).view(np.int64))
    short = are_short(sent)
    assert short.all()
    assert (as_integers(contributions(weight, value), short) == sent).all()


def test_products_that_nobody_rounded_are_not_rounded_either() -> None:
    weight, value = np.random.default_rng(0).random((2, 1, 64))
    sent = exchange((weight * value).view(np.int64))
    assert not are_short(sent).any()
    assert (as_integers(contributions(weight, value), are_short(sent)) == sent).all()


@UNHURRIED
@given(st.sampled_from([NAN, -NAN, INF, -INF, 0.0]), st.sampled_from([NAN, -NAN, INF, 0.0]))
def test_no_prediction_has_a_nan_of_the_processors_making(weight: float, value: float) -> None:
    product = contributions(np.array([[weight]]), np.array([[value]]))
    if np.isnan(product).any():
        assert product.tobytes() == np.array([[value]]).tobytes()
    assert not np.isnan(totals(np.array([[weight], [value]]))).any()
