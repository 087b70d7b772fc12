import numpy as np
import pytest

from penaltyscope_events import FINDINGS, NONFINITE, TermFlag, complete_flags

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("known", "value", "norm", "expected"),
    [
        (0, 1.0, 2.0, 0),
        (0, NAN, 2.0, TermFlag.VALUE_NAN),
        (0, -INF, INF, TermFlag.VALUE_INF | TermFlag.GRADIENT_INF),
        (
            TermFlag.INPUT_NAN,
            NAN,
            NAN,
            TermFlag.INPUT_NAN | TermFlag.VALUE_NAN | TermFlag.GRADIENT_NAN,
        ),
        (TermFlag.NORM_NOT_MEASURED, 1.0, NAN, TermFlag.NORM_NOT_MEASURED),
        (TermFlag.DISABLED, NAN, NAN, TermFlag.DISABLED),
    ],
)
def test_the_numbers_set_their_own_bits(
    known: int, value: float, norm: float, expected: int
) -> None:
    flags = complete_flags(np.array([[known]], np.int32), np.array([[value]]), np.array([[norm]]))
    assert flags.tolist() == [[expected]]
    assert flags.dtype == np.int32


def test_every_finding_has_its_own_bit() -> None:
    assert len({finding.flag for finding in FINDINGS}) == len(FINDINGS) == 6
    assert NONFINITE & (TermFlag.DISABLED | TermFlag.NORM_NOT_MEASURED) == 0
